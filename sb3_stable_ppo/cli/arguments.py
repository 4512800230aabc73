"""
What the commands' arguments have in common: how a parser looks, the types of values, the flags for workers.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
from collections.abc import Callable
from typing import NoReturn

from sb3_stable_ppo.common.packages import PROGRAM
from sb3_stable_ppo.parallel.options import WorkerOptions

WIDTH = 28
"""Columns of the flags in a help text; what they do stands beside them."""


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=WIDTH)


def brief_error(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    """
    ``ArgumentParser.error`` in one line, without the usage, which for some commands fills a screen.

    :param parser: whose arguments are wrong
    :param message: what is wrong
    """
    parser.exit(2, f"{parser.prog}: error: {message}. `{parser.prog} --help` shows all flags.\n")


class BriefParser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    error = brief_error


def parser_of(command: str, description: str, example: str, *, add_help: bool = True) -> argparse.ArgumentParser:
    """
    The parser of one command.

    :param command: the command's name
    :param description: what it does, in lines of at most 100 characters
    :param example: arguments of a call, which the help shows at its end
    :param add_help: whether ``--help`` prints the help at once
    """
    return BriefParser(
        prog=f"{PROGRAM} {command}",
        description=description,
        epilog=f"example:\n  {PROGRAM} {command} {example}",
        formatter_class=_Formatter,
        allow_abbrev=False,
        add_help=add_help,
    )


def add_help_argument(parser: argparse.ArgumentParser) -> None:
    """
    Add ``--help`` that is only noted: :func:`show_help` prints it.

    :param parser: made with ``add_help=False``
    """
    parser.add_argument("-h", "--help", action="store_true", help="show this help and exit")


def show_help(parser: argparse.ArgumentParser, whose: str, show_theirs: Callable[[], object]) -> None:
    """
    Print our flags, then the help of the program that ours calls, then the example.

    :param parser: of our flags
    :param whose: whose help follows, such as ``rl_zoo3's train``
    :param show_theirs: prints that help, and may end with SystemExit
    """
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        show_theirs()
    parser.epilog = f"flags of {whose}, which work too:\n\n{printed.getvalue()}\n{parser.epilog}"
    parser.print_help()


def non_negative_int(text: str, least: int = 0) -> int:
    """A whole number of at least ``least``, or the error that argparse shows."""
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
    return int(text)


def finite_number(text: str) -> float:
    """A number, or the error that argparse shows."""
    with contextlib.suppress(ValueError):
        if math.isfinite(float(text)):
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a finite number")


def positive_int(text: str) -> int:
    """A whole number of at least 1."""
    return non_negative_int(text, 1)


def count_or_seeds(text: str) -> int | str:
    """A number of seeds, or the text that names them, which ``parse_seeds`` reads."""
    return int(text) if text.isdecimal() else text


def add_gym_packages(parser: argparse._ActionsContainer, default: str = "none") -> None:
    """
    Add ``--gym-packages``.

    :param parser: of a command that makes an env, or a group of its arguments
    :param default: what the command imports without it, in words
    """
    parser.add_argument(
        "--gym-packages",
        nargs="+",
        default=[],
        metavar="MODULE",
        help=f"modules to import, which register the env (default: {default})",
    )


def add_worker_arguments(parser: argparse._ActionsContainer, none: str | None = None, *also: str) -> None:
    """
    Add ``--workers``, ``--ray`` and ``--worker-gpus``.

    :param parser: of a command whose work several processes can share, or a group of its arguments
    :param none: what the command does with ``--workers 0``; None: it takes no 0
    :param also: other names of ``--workers``
    """
    parser.add_argument(
        "--workers",
        *also,
        type=non_negative_int,
        default=1,
        metavar="N",
        help=f"processes at once{f'; 0: {none}' if none else ''} (default: %(default)s)",
    )
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="run the workers on a Ray cluster: its HOST:PORT, or auto on a machine of it (default: this machine)",
    )
    parser.add_argument(
        "--worker-gpus",
        type=share,
        default=0.0,
        metavar="GPUS",
        help="with --ray: GPUs of each worker; 0.25: four workers share one (default: %(default)s)",
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
