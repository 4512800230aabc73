"""
``sb3-stable-ppo train``: an agent trained through rl_zoo3.
"""

from __future__ import annotations

import argparse
import importlib.util
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sb3_stable_ppo.cli_arguments import PROGRAM, import_packages
from sb3_stable_ppo.cli_report import missing, write_report
from sb3_stable_ppo.env_ids import check_env
from sb3_stable_ppo.errors import UsageError
from sb3_stable_ppo.patching import replaced
from sb3_stable_ppo.run_data import read_run
from sb3_stable_ppo.runs import RunReader


def run(argv: list[str]) -> int:
    """train an agent through rl_zoo3; all flags of rl_zoo3's train work"""
    if importlib.util.find_spec("rl_zoo3") is None:
        raise UsageError("train needs rl_zoo3: pip install 'sb3-stable-ppo[zoo]'.")
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument("--algo", default="stable_ppo")
    own.add_argument("--env", default="CartPole-v1")
    own.add_argument("--gym-packages", nargs="+", default=[])
    own.add_argument("-i", "--trained-agent", default="")
    own.add_argument("--no-progress", action="store_true")
    own.add_argument("--no-report", action="store_true")
    own.add_argument("--vec-env")
    own.add_argument("-h", "--help", action="store_true")
    args, _ = own.parse_known_args(argv)
    if args.help:
        print(
            "Beside rl_zoo3's own flags below: --no-progress (tables instead of a progress bar), --no-report (no\n"
            "report.html at the end).\n"
            "Defaults that differ: --algo stable_ppo, its --conf-file from this package, --progress.\n"
        )

    import rl_zoo3.train

    from sb3_stable_ppo import zoo, zoo_registry

    zoo_registry.register()
    if not args.help:
        import_packages(args.gym_packages)
        check_env(args.env)
        if args.trained_agent and not (args.trained_agent.endswith(".zip") and Path(args.trained_agent).is_file()):
            raise UsageError(f"--trained-agent {args.trained_agent}: no such .zip file.")
    defaults, vec_env = ["--algo", args.algo], args.vec_env
    if args.algo in zoo_registry.ALGORITHMS:
        defaults += ["--conf-file", str(zoo_registry.config_file(args.algo))]
    if not args.no_progress:
        defaults += ["--progress"]
    flags = [flag for flag in argv if flag not in ("--no-progress", "--no-report")]
    managers: list[zoo.StableExperimentManager] = []

    def make_manager(*args: object, **kwargs: object) -> zoo.StableExperimentManager:
        managers.append(zoo.StableExperimentManager(*args, **kwargs))  # type: ignore[arg-type]
        managers[-1].vec_env_flag = vec_env
        return managers[-1]

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with (
        replaced(rl_zoo3.train, "ExperimentManager", make_manager),
        replaced(sys, "argv", [f"{PROGRAM} train", *defaults, *flags]),
        handled(signal.SIGTERM, stop),  # a scheduler's polite end of a job saves the model as Ctrl-C does
    ):
        try:
            rl_zoo3.train.train()
        except Exception as error:
            if isinstance(error, UsageError) or any(manager.is_set_up for manager in managers):
                raise
            raise UsageError(f"train: {type(error).__name__}: {' '.join(str(error).split())}") from error
        finally:
            for manager in managers:
                print_results(Path(manager.save_path))
                if not args.no_report:
                    leave_report(Path(manager.save_path))
    return 0


@contextmanager
def handled(number: signal.Signals, handler: Callable[..., None]) -> Iterator[None]:
    """
    Handle a signal, in the main thread, and hand it back.

    :param number: the signal
    :param handler: what is called
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


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
