"""
A study from its plan to its best trials: workers are started, replaced if they die, and waited for.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from rl_zoo3.utils import ALGOS
from tqdm import tqdm

from sb3_stable_ppo.common.checks import one_of, whole_number
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.common.files import write_atomically
from sb3_stable_ppo.common.packages import PROGRAM, import_packages
from sb3_stable_ppo.common.signals import handled
from sb3_stable_ppo.envs.registry import check_env
from sb3_stable_ppo.parallel.local import EXIT_USAGE, MAX_RETRIES, Job, last_line
from sb3_stable_ppo.parallel.options import WorkerOptions
from sb3_stable_ppo.studies.page import page_of
from sb3_stable_ppo.studies.storage import HEARTBEAT, is_file, open_storage
from sb3_stable_ppo.studies.study import (
    PRUNERS,
    WORKER,
    effective_trials,
    goal_of,
    n_remaining,
    open_study,
    plan_of,
    requeue_dead_trials,
    running,
)
from sb3_stable_ppo.tuning.results import show, write_best
from sb3_stable_ppo.tuning.trial import Plan, base_entry
from sb3_stable_ppo.tuning.worker import STORAGE, VERSIONS, arguments
from sb3_stable_ppo.zoo.registry import ALGORITHMS, config_file, register

POLL = 2.0
"""Seconds between two looks at a study, each of which reads all its trials."""


def tune(
    env: str,
    n_timesteps: int,
    *,
    algo: str = "stable_ppo",
    trials: int = 50,
    seeds: int = 1,
    seed: int = 0,
    n_evaluations: int = 5,
    eval_episodes: int = 5,
    pruner: str = "median",
    health: bool = False,
    conf_file: str | Path | None = None,
    log_folder: str | Path = "logs",
    study: str | None = None,
    storage: str | None = None,
    heartbeat: int = HEARTBEAT,
    gym_packages: Sequence[str] = (),
    workers: int = 1,
    ray: str | None = None,
    worker_gpus: float = 0.0,
) -> Study:
    """
    Search for hyperparameters, as ``sb3-stable-ppo tune`` does. A study that exists already goes on.

    Trials run in processes of their own. They find an environment of yours through ``gym_packages``.

    :param env: id of the environment
    :param n_timesteps: environment steps of each run
    :param algo: ``stable_ppo``, ``stable_ppo_mask`` or ``stable_ppo_lstm``
    :param trials: in all, over all calls and workers
    :param seeds: runs of each trial, whose mean counts
    :param seed: the first of them
    :param n_evaluations: of each run
    :param eval_episodes: episodes of each evaluation
    :param pruner: ``median``, ``halving`` or ``none``
    :param health: whether the least share of live units is a second objective
    :param conf_file: YAML file with the configuration that trials change; None: this package's
    :param log_folder: the study's files are in ``LOG_FOLDER/STUDY``
    :param study: the study's name; None: ``tune_ENV``
    :param storage: URL of a database, or a journal file; None: ``LOG_FOLDER/STUDY/journal.log``
    :param heartbeat: seconds between two heartbeats of a trial in a database; after three missed ones it is dead
    :param gym_packages: modules to import, which register the environment
    :param workers: processes at once; 0 only shows the study
    :param ray: address of a Ray cluster for the workers, or ``auto``; it needs a database
    :param worker_gpus: GPUs of each worker on Ray; may be a fraction
    :return: the study, of which at least one trial is complete; its best configuration is in ``best.yml``, or with
        ``health`` those of the Pareto front in ``pareto_NUMBER.yml``
    :raises UsageError: if an argument is wrong, the storage cannot be used, the study is one of other settings, trial
        after trial fails, or no trial is complete at the end
    :raises KeyboardInterrupt: at Ctrl-C and SIGTERM; the same call goes on
    """
    options = WorkerOptions(workers, ray, worker_gpus)
    if ray is not None and (storage is None or is_file(storage)):
        raise UsageError("--ray needs --storage with the URL of a database that all its machines reach.")
    import_packages(gym_packages)
    check_env(env)
    name = study or f"tune_{env.replace('/', '-')}"
    if Path(name).name != name or name == "..":
        raise UsageError(f"--study {name}: give a name, not a path.")
    folder = Path(log_folder) / name
    where = storage or str(folder / "journal.log")
    try:
        one_of(pruner, PRUNERS, "pruner")
        if not isinstance(health, bool):
            raise ValueError(f"health must be True or False, not {health!r}.")
        trials, heartbeat = whole_number(trials, "trials", 1), whole_number(heartbeat, "heartbeat", 1)
        n_timesteps, seed = whole_number(n_timesteps, "n_timesteps", 1), whole_number(seed, "seed")
        plan = Plan(
            algo=algo,
            env=env,
            base=_base(algo, env, conf_file),
            n_timesteps=n_timesteps,
            seeds=tuple(range(seed, seed + whole_number(seeds, "seeds", 1))),
            n_evaluations=whole_number(n_evaluations, "n_evaluations", 1),
            eval_episodes=whole_number(eval_episodes, "eval_episodes", 1),
            health=health,
            folder=folder / "trials",
        )
    except ValueError as error:
        raise UsageError(f"tune: {error}") from None

    found = _study_of(plan, name, where, pruner, heartbeat, makes=bool(workers))
    if workers:
        requeue_dead_trials(found, heartbeat)
        goal = goal_of(found, trials)
        print(f"Study {name}: {trials} trials, {n_remaining(found, goal)} of them to do.", flush=True)
        jobs = _Jobs(options, arguments(name, plan.folder, goal, heartbeat, pruner, gym_packages), folder, where)
        try:
            _do_trials(found, goal, heartbeat, jobs)
        except KeyboardInterrupt:
            show(found)
            print("Interrupted: the same command goes on; trials that were running are done again.")
            raise
    show(found)
    _check_any_succeeded(found)
    for path in write_best(found, plan, folder):
        print(path)
    page = page_of(found)
    if page is not None:
        write_atomically(folder / "study.html", page.encode())
        print(folder / "study.html")
    return found


def _base(algo: str, env: str, conf_file: str | Path | None) -> dict[str, Any]:
    """The configuration that trials change, checked before anything is written."""
    register()
    if algo not in ALGORITHMS:
        raise UsageError(f"tune searches {', '.join(ALGORITHMS)}, not {algo!r}.")
    return base_entry(Path(conf_file or config_file(algo)), env, ALGOS[algo])


def _study_of(plan: Plan, name: str, where: str, pruner: str, heartbeat: int, makes: bool) -> Study:
    """Open a study, or make it if ``makes``."""
    if not makes and is_file(where) and not Path(where).is_file():
        raise UsageError(f"--storage {where}: there is no such file, and no study to show.")
    storage = open_storage(where, heartbeat)
    if not makes:
        plan_of(storage, name)
    facts = {field: value for field, value in plan._asdict().items() if field != "folder"}
    facts |= {"heartbeat": heartbeat, **VERSIONS}
    return open_study(storage, name, facts, pruner, plan.seeds[0], 2 if plan.health else 1)


class _Jobs:
    """
    Workers of a study.

    :param options: how many, and where
    :param argv: what follows ``python`` for each
    :param folder: of the study
    :param where: the storage, which the workers are told in an environment variable
    """

    def __init__(self, options: WorkerOptions, argv: tuple[str, ...], folder: Path, where: str) -> None:
        self._options, self._argv, self._environment = options, argv, {STORAGE: where}
        self.logs = folder / "workers"

    def run(self, n_trials: int, watch: _Watch) -> dict[str, int]:
        """
        :param n_trials: that are to be done; there are no more workers than trials
        :param watch: called while they work
        :return: exit status by worker
        """
        jobs = [Job(f"worker_{number}", self._argv) for number in range(min(self._options.workers, n_trials))]
        return self._options.run_jobs(jobs, self.logs, self._environment, watch)


def _do_trials(study: Study, goal: int, heartbeat: int, jobs: _Jobs) -> None:
    """
    Round after round of workers, until all trials are done.

    :raises UsageError: if a worker reports a mistake, or the workers of several rounds fail without ending a trial
    :raises KeyboardInterrupt: once the workers have ended
    """
    watch, fruitless_rounds = _Watch(study, goal, heartbeat), 0
    try:
        with handled(signal.SIGTERM):
            while (left := n_remaining(study, goal)) or running(study):
                if not left:  # other calls' workers do the rest, or have died, which will be seen
                    watch.announce_waiting(running(study))
                    time.sleep(POLL)
                    watch()
                    continue
                before = watch.done
                statuses = jobs.run(left, watch)
                watch()
                failed = [name for name, status in statuses.items() if status]
                fruitless_rounds = fruitless_rounds + 1 if failed and watch.done == before else 0
                refused = [name for name in failed if statuses[name] == EXIT_USAGE]
                if n_remaining(study, goal) and (refused or fruitless_rounds > MAX_RETRIES):
                    told = last_line(jobs.logs / f"{(refused or failed)[0]}.log")
                    raise UsageError(f"tune: {(refused or failed)[0]}: {told.removeprefix(f'{PROGRAM}: error: ')}")
    except KeyboardInterrupt:
        requeue_dead_trials(study, heartbeat)
        raise
    finally:
        watch.close()


def _check_any_succeeded(study: Study) -> None:
    """:raises UsageError: if there are trials, and all of them failed"""
    found = list(effective_trials(study).values())
    if found and all(trial.state is TrialState.FAIL for trial in found):
        errors = [trial.user_attrs["error"] for trial in found if "error" in trial.user_attrs]
        cause = errors[-1].rstrip(".") if errors else "their workers died"
        raise UsageError(f"All {len(found)} trials of the study {study.study_name!r} failed, the last with {cause}.")


class _Watch:
    """Looks for dead workers now and then, and shows a bar of the trials that are done if there is a terminal."""

    def __init__(self, study: Study, goal: int, heartbeat: int) -> None:
        self._study, self._heartbeat, self._next = study, heartbeat, 0.0
        self.done, self._announced = 0, False
        self._bar = tqdm(total=goal, unit="trial", disable=not sys.stderr.isatty())
        self()

    def __call__(self, statuses: object = None) -> None:
        """
        :param statuses: given by ``run_jobs``, which calls more often than a storage should be read: most of its calls
            do nothing. Without it, the study is read at once.
        """
        if statuses is not None and time.monotonic() < self._next:
            return
        requeue_dead_trials(self._study, self._heartbeat)
        self.done = sum(trial.state.is_finished() for trial in effective_trials(self._study).values())
        self._bar.update(self.done - self._bar.n)
        self._next = time.monotonic() + POLL

    def announce_waiting(self, trials: list[FrozenTrial]) -> None:
        """
        Print, once, which workers of other calls have not ended their trials.

        :param trials: that are waited for
        """
        if trials and not self._announced:
            self._announced = True
            workers = ", ".join(sorted({str(trial.user_attrs.get(WORKER, "a worker")) for trial in trials}))
            print(f"Waiting for trials of {workers}. Ctrl-C ends the waiting, not the trials.", flush=True)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()
