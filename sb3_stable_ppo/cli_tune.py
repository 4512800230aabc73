"""
``sb3-stable-ppo tune``: search for hyperparameters with Optuna, by as many processes as one likes.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from sb3_stable_ppo import __version__
from sb3_stable_ppo.cli_arguments import import_packages, natural, parser_of, positive
from sb3_stable_ppo.env_ids import check_env
from sb3_stable_ppo.errors import UsageError

STORAGE = "SB3_STABLE_PPO_STORAGE"
"""In this variable a worker is told the storage: a command line, and the password in it, can be read by all users."""
POLL = 1.0


def run(argv: list[str]) -> int:
    """search for good hyperparameters with Optuna; several workers, several machines"""
    if importlib.util.find_spec("rl_zoo3") is None:
        raise UsageError("tune needs rl_zoo3 and optuna: pip install 'sb3-stable-ppo[zoo]'.")
    parser = parser_of("tune", run.__doc__)
    parser.add_argument("--algo", default="stable_ppo", help="stable_ppo, stable_ppo_mask or stable_ppo_lstm")
    parser.add_argument("--env", required=True)
    parser.add_argument("-n", "--n-timesteps", type=positive, required=True, help="of each run")
    parser.add_argument("--trials", type=positive, default=50, help="in all, over all workers (%(default)s)")
    parser.add_argument("--workers", type=natural, default=1, help="processes here; 0: none, only show (%(default)s)")
    parser.add_argument("--seeds", type=positive, default=1, help="runs of each trial, whose mean counts (%(default)s)")
    parser.add_argument("--seed", type=natural, default=0, help="first of the seeds, and of the sampler (%(default)s)")
    parser.add_argument("--n-evaluations", type=positive, default=5, help="of each run (%(default)s)")
    parser.add_argument("--eval-episodes", type=positive, default=5, help="of each evaluation (%(default)s)")
    parser.add_argument("--pruner", choices=["median", "halving", "none"], default="median")
    parser.add_argument("--health", action="store_true", help="a second objective: the least share of live units")
    parser.add_argument("--conf-file", type=Path, help="the configuration that trials change (this package's)")
    parser.add_argument("-f", "--log-folder", type=Path, default=Path("logs"), help="(%(default)s)")
    parser.add_argument("--study", help="name (tune_ENV)")
    parser.add_argument("--storage", help="URL of a database, or a file (LOG_FOLDER/STUDY/journal.log)")
    parser.add_argument("--gym-packages", nargs="+", default=[], help="modules that register the env")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    import_packages(args.gym_packages)
    args.study = args.study or f"tune_{args.env.replace('/', '-')}"
    folder = args.log_folder / args.study
    where = os.environ.get(STORAGE) if args.worker else args.storage
    where = where or args.storage or str(folder / "journal.log")

    import optuna

    from sb3_stable_ppo.studies import open_storage, open_study, plan_trials, told_without_password

    optuna.logging.set_verbosity(optuna.logging.ERROR if args.worker else optuna.logging.WARNING)
    plan = _plan(args, folder)
    facts = {name: value for name, value in plan._asdict().items() if name != "folder"}
    facts |= {"search_space": _space_version(), "package": __version__}
    with told_without_password(where):
        storage = open_storage(where)
        seed = args.seed + os.getpid() if args.worker else args.seed
        study = open_study(storage, args.study, facts, args.pruner, seed, 2 if args.health else 1)
    if args.worker:
        return _work(study, plan)
    with told_without_password(where):
        planned = plan_trials(study, args.trials)
    print(f"Study {args.study}: {args.trials} trials, {planned} of them to do.", flush=True)
    interrupted = _launch(argv, args.workers, where, study)
    from sb3_stable_ppo.tuning_results import show, write_best

    show(study)
    if interrupted:
        print("Interrupted: the same command goes on; trials that were running are done again.")
        return 130
    for path in write_best(study, plan, folder):
        print(path)
    return 0


def _space_version() -> int:
    from sb3_stable_ppo.search_space import VERSION

    return VERSION


def _plan(args: argparse.Namespace, folder: Path) -> Any:
    """What all trials have in common, checked before anything is written."""
    from rl_zoo3.utils import ALGOS

    from sb3_stable_ppo.trial_runs import Plan, base_entry
    from sb3_stable_ppo.zoo_registry import ALGORITHMS, config_file, register

    register()
    if args.algo not in ALGORITHMS:
        raise UsageError(f"tune searches {', '.join(ALGORITHMS)}, not {args.algo!r}.")
    check_env(args.env)
    base = base_entry(args.conf_file or config_file(args.algo), args.env, ALGOS[args.algo])
    seeds = tuple(range(args.seed, args.seed + args.seeds))
    return Plan(
        args.algo,
        args.env,
        base,
        args.n_timesteps,
        seeds,
        args.n_evaluations,
        args.eval_episodes,
        args.health,
        folder / "trials",
    )


def _work(study: Any, plan: Any) -> int:
    """One process: trial after trial, until none is left. SIGTERM ends it as Ctrl-C does."""
    from sb3_stable_ppo.studies import is_waiting

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    while is_waiting(study):
        study.optimize(plan.objective, n_trials=1, catch=(Exception,))
    return 0


def _launch(argv: list[str], n_workers: int, where: str, study: Any) -> bool:
    """
    Start workers and wait for them; what dead ones leave is planned again.

    :return: whether it was interrupted
    """
    from sb3_stable_ppo.studies import is_waiting, plan_again, worker_name

    command = [sys.executable, "-m", "sb3_stable_ppo", "tune", *argv, "--worker"]
    position = command.index("--storage") if "--storage" in command else None
    if position is not None:
        del command[position : position + 2]
    environment = {**os.environ, STORAGE: where, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    workers: dict[str, subprocess.Popen[bytes]] = {}
    dead: set[str] = set()
    progress = _Progress(study)

    def start() -> None:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
        workers[worker_name(process.pid)] = process

    try:
        for _ in range(n_workers):
            start()
        while workers:
            time.sleep(POLL)
            progress.update()
            for name in [name for name, process in workers.items() if process.poll() is not None]:
                dead.add(name)
                failed = workers.pop(name).returncode != 0
                again = plan_again(study, dead.__contains__)
                if failed and again == 0 and not is_waiting(study):
                    continue
                if failed and len(dead) > 10 * max(n_workers, 1):
                    raise UsageError("tune: workers die again and again; run one by hand to see why: --workers 1.")
                if again or (failed and is_waiting(study)):
                    start()
            if not workers and plan_again(study, lambda name: name is None or name in dead):  # died as it began
                start()
    except KeyboardInterrupt:
        for process in workers.values():
            process.terminate()
        for name, process in workers.items():
            process.wait()
            dead.add(name)
        plan_again(study, dead.__contains__)
        return True
    finally:
        progress.close()
    return False


class _Progress:
    """A bar of the trials that are done, where there is a terminal."""

    def __init__(self, study: Any) -> None:
        from tqdm import tqdm

        from sb3_stable_ppo.studies import outcomes

        self._outcomes, self._study = outcomes, study
        self._bar = tqdm(total=len(outcomes(study)), unit="trial", disable=not sys.stderr.isatty())
        self.update()

    def update(self) -> None:
        done = [trial for trial in self._outcomes(self._study).values() if trial.state.is_finished()]
        self._bar.update(len(done) - self._bar.n)

    def close(self) -> None:
        self._bar.close()
