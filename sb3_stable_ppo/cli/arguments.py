"""
What the commands' arguments have in common.
"""

from __future__ import annotations

import argparse

from sb3_stable_ppo.common.packages import PROGRAM
from sb3_stable_ppo.parallel.options import WorkerOptions


def parser_of(command: str, description: str | None) -> argparse.ArgumentParser:
    """
    The parser of one command.

    :param command: the command's name
    :param description: what it does
    """
    return argparse.ArgumentParser(prog=f"{PROGRAM} {command}", description=description, allow_abbrev=False)


def non_negative_int(text: str, least: int = 0) -> int:
    """A whole number of at least ``least``, or the error that argparse shows."""
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
    return int(text)


def positive_int(text: str) -> int:
    """A whole number of at least 1."""
    return non_negative_int(text, 1)


def add_worker_arguments(parser: argparse.ArgumentParser, none: str) -> None:
    """
    Add ``--workers``, ``--ray`` and ``--worker-gpus``.

    :param parser: of a command whose work several processes can share
    :param none: what the command does with ``--workers 0``
    """
    parser.add_argument(
        "--workers", type=non_negative_int, default=1, help=f"processes at once (%(default)s); 0: {none}"
    )
    parser.add_argument("--ray", metavar="ADDRESS", help="workers on a Ray cluster: its address, or auto")
    parser.add_argument(
        "--worker-gpus",
        type=share,
        default=0.0,
        help="with --ray: GPUs of each worker, 0.25 for four workers to one (%(default)s)",
    )


def worker_options(args: argparse.Namespace) -> WorkerOptions:
    """
    What :func:`add_worker_arguments` has read, checked before anything is begun.

    :param args: parsed arguments
    :raises UsageError: if they contradict each other, or Ray is not installed
    """
    return WorkerOptions(args.workers, args.ray, args.worker_gpus)


def share(text: str) -> float:
    """A number of GPUs, or the error that argparse shows."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (0 <= value <= 1 or value in range(100)):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a share of a GPU nor a whole number of them")
    return value
