"""
``sb3-stable-ppo train``: an agent trained through rl_zoo3.
"""

from __future__ import annotations

import argparse
import importlib.util
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from sb3_stable_ppo.cli.arguments import add_worker_arguments, worker_options
from sb3_stable_ppo.common.errors import UsageError, described
from sb3_stable_ppo.common.packages import PROGRAM, import_packages
from sb3_stable_ppo.common.patching import patched
from sb3_stable_ppo.common.signals import handled
from sb3_stable_ppo.envs.registry import check_env
from sb3_stable_ppo.report.write import missing, write_report
from sb3_stable_ppo.runs.data import read_run
from sb3_stable_ppo.runs.folder import RunReader
from sb3_stable_ppo.zoo.seeds import FINISHED, move_dead_attempt, parse_seeds, train_seeds


def run(argv: list[str]) -> int:
    """train an agent through rl_zoo3; all flags of rl_zoo3's train work"""
    if importlib.util.find_spec("rl_zoo3") is None:
        raise UsageError("train needs rl_zoo3: pip install 'sb3-stable-ppo[zoo]'.")
    ours = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    ours.add_argument("--no-progress", action="store_true")
    ours.add_argument("--no-report", action="store_true")
    ours.add_argument("--seeds")
    ours.add_argument("--task", help=argparse.SUPPRESS)
    add_worker_arguments(ours, none="an error")
    own, flags = ours.parse_known_args(argv)
    theirs = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    theirs.add_argument("--algo", default="stable_ppo")
    theirs.add_argument("--env", default="CartPole-v1")
    theirs.add_argument("--gym-packages", nargs="+", default=[])
    theirs.add_argument("-i", "--trained-agent", default="")
    theirs.add_argument("-f", "--log-folder", default="logs")
    theirs.add_argument("--vec-env")
    theirs.add_argument("--seed")
    theirs.add_argument("-optimize", "--optimize-hyperparameters", action="store_true")
    theirs.add_argument("-h", "--help", action="store_true")
    args, _ = theirs.parse_known_args(flags)
    options = worker_options(own)
    if own.seeds is None and (own.workers, own.ray) != (1, None):
        raise UsageError("--workers and --ray are for several runs: --seeds 0-9.")
    if args.help:
        print(
            "Beside rl_zoo3's own flags below: --no-progress (tables instead of a progress bar), --no-report (no\n"
            "report.html at the end), --seeds 0-9 (a run for each seed) with --workers N (so many at once), --ray\n"
            "ADDRESS (on a Ray cluster) and --worker-gpus SHARE (of each of its workers).\n"
            "Defaults that differ: --algo stable_ppo, its --conf-file from this package, --progress.\n"
        )

    import rl_zoo3.train

    from sb3_stable_ppo.zoo.manager import StableExperimentManager
    from sb3_stable_ppo.zoo.registry import ALGORITHMS, config_file, register

    register()
    if not args.help:
        import_packages(args.gym_packages)
        check_env(args.env)
        if args.trained_agent and not (args.trained_agent.endswith(".zip") and Path(args.trained_agent).is_file()):
            raise UsageError(f"--trained-agent {args.trained_agent}: no such .zip file.")
        if own.seeds is not None:
            for flag, is_given in {"--seed": args.seed, "-optimize": args.optimize_hyperparameters}.items():
                if is_given:
                    raise UsageError(f"--seeds and {flag} do not go together.")
            no_report = ["--no-report"] if own.no_report else []
            seeds = parse_seeds(own.seeds)
            runs = train_seeds(seeds, [*flags, *no_report], log_folder=args.log_folder, **asdict(options))
            return int([run.status for run in runs.values()] != [FINISHED] * len(seeds))
        finished = move_dead_attempt(Path(args.log_folder), own.task) if own.task else None
        if finished is not None:  # its process was killed while it wrote the report
            print_results(finished)
            if not own.no_report:
                leave_report(finished)
            return 0
    defaults, vec_env = ["--algo", args.algo], args.vec_env
    if args.algo in ALGORITHMS:
        defaults += ["--conf-file", str(config_file(args.algo))]
    if not own.no_progress:
        defaults += ["--progress"]
    managers: list[StableExperimentManager] = []

    def make_manager(*args: object, **kwargs: object) -> StableExperimentManager:
        managers.append(StableExperimentManager(*args, **kwargs))  # type: ignore[arg-type]
        managers[-1].vec_env_flag, managers[-1].task = vec_env, own.task
        return managers[-1]

    with (
        patched(rl_zoo3.train, "ExperimentManager", make_manager),
        patched(sys, "argv", [f"{PROGRAM} train", *defaults, *flags]),
        handled(signal.SIGTERM),
    ):
        try:
            rl_zoo3.train.train()
        except Exception as error:
            if isinstance(error, UsageError) or any(manager.is_set_up for manager in managers):
                raise
            raise UsageError(f"train: {described(error)}") from error
        finally:
            for manager in managers:
                print_results(Path(manager.save_path))
                if not own.no_report:
                    leave_report(Path(manager.save_path))
    return 0


def print_results(folder: Path) -> None:
    """
    Where a run's results are, and how its layers fared.

    :param folder: the run folder; nothing is printed if there is none
    """
    if not folder.is_dir():
        return
    from rich.console import Console
    from rich.table import Table

    reader = RunReader(folder)
    console = Console()
    console.print(f"\nResults ({reader.facts.get('status', 'unknown')}): [bold]{folder}[/bold]")
    health = list(reader.health())
    if not health:
        return
    first, last = health[0], health[-1]
    table = Table(title="Live units per layer (a positive output on some of 64 observations)")
    table.add_column("layer")
    table.add_column("units", justify="right")
    table.add_column(f"step {first['step']:,}", justify="right")
    table.add_column(f"step {last['step']:,}", justify="right")
    for layer, figures in last["layers"].items():
        before = first["layers"].get(layer, figures)
        table.add_row(layer, *(str(int(n)) for n in (figures["units"], before["live"], figures["live"])))
    console.print(table)


def leave_report(folder: Path) -> None:
    """
    Write ``report.html``, if plotly is there. A run that is done is not lost over its picture.

    :param folder: the run folder; nothing is written if there is none
    """
    if not folder.is_dir() or missing():
        return
    try:
        write_report([read_run(folder)], folder / "report.html")
    except Exception as error:
        print(f"{PROGRAM}: no report: {type(error).__name__}: {error}", file=sys.stderr)
    else:
        print(f"Report: {folder / 'report.html'}")
