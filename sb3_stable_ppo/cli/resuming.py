"""
``train --resume`` and the flags for checkpoints: what they say, checked.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

from sb3_stable_ppo.cli.arguments import finite_number, positive_int
from sb3_stable_ppo.cli.results import leave_report
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.runs.folder import RunWriter
from sb3_stable_ppo.zoo.resuming import AUTO, StartedRun, changes_of, newest_run, run_in
from sb3_stable_ppo.zoo.run_arguments import SHOWN, grouped


class GoesOn(NamedTuple):
    """
    How a run goes on.

    :param run: which
    :param argv: arguments of ``train`` by which its envs and callbacks are built
    :param n_timesteps: environment steps of the whole run; None: as many as it was to have
    """

    run: StartedRun
    argv: list[str]
    n_timesteps: int | None


def minutes(text: str) -> float:
    """A number of at least 0, or the error that argparse shows."""
    value = finite_number(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is less than 0")
    return value


def add_checkpoint_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Add ``--resume`` and the flags for checkpoints.

    :param parser: of ``train``
    """
    group = parser.add_argument_group("checkpoints, from which a run that was killed goes on")
    group.add_argument(
        "--resume",
        metavar="RUN",
        help="go on with the run of this folder, in it; auto: with the newest of the log folder that has the same "
        "flags, or else begin one (default: begin a run)",
    )
    add_interval_arguments(group)
    group.add_argument(
        "--no-checkpoint-replay-buffer",
        action="store_true",
        help="leave the replay buffer out of checkpoints: a resumed run begins with an empty one",
    )


def add_interval_arguments(group: argparse._ArgumentGroup) -> None:
    """
    Add the flags that say how often a run writes a checkpoint.

    :param group: of ``train`` or ``tune``
    """
    group.add_argument(
        "--checkpoint-minutes",
        type=minutes,
        metavar="M",
        help="minutes between two checkpoints; 0: none, or as --checkpoint-steps says (default: 10)",
    )
    group.add_argument(
        "--checkpoint-steps",
        type=positive_int,
        metavar="N",
        help="environment steps between two checkpoints, beside the minutes (default: minutes alone count)",
    )


def how_it_goes_on(own: argparse.Namespace, args: argparse.Namespace, argv: list[str]) -> GoesOn | None:
    """
    :param own: our flags
    :param args: those of rl_zoo3 that are read before it reads them
    :param argv: all
    :return: None: a new run begins
    :raises UsageError: if the run cannot go on, or a flag contradicts it
    """
    if own.resume is None:
        return None
    if own.resume != AUTO:
        run = run_in(own.resume)
        changes = changes_of(run, argv)
        text = changes.get("--n-timesteps", ("",))[0]
        if "--n-timesteps" in changes and not (text.isdecimal() and int(text)):
            raise UsageError(f"--n-timesteps (-n) {text}: not a whole number of at least 1.")
        if text:
            run.check_total(int(text))
        return GoesOn(run, run.arguments(changes), int(text) if text else None)
    if args.optimize_hyperparameters:
        raise UsageError("--resume auto is for a run: with --storage and --study-name, -optimize goes on by itself.")
    found = newest_run(args.log_folder, args.algo, argv)
    if found is None:
        return None
    changes = {name: values for name, values in grouped(argv).items() if name in SHOWN}
    return GoesOn(found, found.arguments(changes), found.total_for_auto)


def has_ended(goes_on: GoesOn, own: argparse.Namespace) -> bool:
    """
    Tell of a run that has nothing left to do. Its report is written if its process was killed before.

    :param goes_on: the run
    :param own: our flags
    """
    told, folder = goes_on.run.end(goes_on.n_timesteps), Path(goes_on.run.folder)
    if told is None:
        return False
    print(told)
    if own.task is not None:
        RunWriter(folder).describe(task=own.task)
    if "--no-report" not in goes_on.argv and not (folder / "report.html").is_file():
        leave_report(folder)
    return True
