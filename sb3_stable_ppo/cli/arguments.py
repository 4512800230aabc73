"""
What the commands' arguments have in common.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util

from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.common.packages import PROGRAM


def parser_of(command: str, description: str | None) -> argparse.ArgumentParser:
    """
    :param command: its name
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
    :param parser: of a command whose work can be spread
    :param none: what it does with no worker
    """
    parser.add_argument(
        "--workers", type=non_negative_int, default=1, help=f"processes at once (%(default)s); 0: {none}"
    )
    parser.add_argument("--ray", metavar="ADDRESS", help="workers on a Ray cluster: its address, or auto")
    parser.add_argument("--worker-gpus", type=share, default=0.0, help="with --ray: of each worker, may be a fraction")


def check_worker_arguments(args: argparse.Namespace) -> None:
    """
    Before anything is begun.

    :param args: of :func:`add_worker_arguments`
    :raises UsageError: if they contradict each other, or Ray is not installed
    """
    if args.ray is None and args.worker_gpus:
        raise UsageError("--worker-gpus is for --ray; processes here see all GPUs (CUDA_VISIBLE_DEVICES chooses).")
    if args.ray is not None and importlib.util.find_spec("ray") is None:
        raise UsageError("--ray needs Ray: pip install 'sb3-stable-ppo[ray]'.")


def share(text: str) -> float:
    """A number of GPUs, or the error that argparse shows."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (0 <= value <= 1 or value in range(100)):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a share of a GPU nor a whole number of them")
    return value
