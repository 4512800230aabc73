"""
The command line. Exit status 0: done; 1: training collapsed, or a model that is unhealthy; 2: a mistake in the call;
130 or 143: interrupted by Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from sb3_stable_ppo import __version__
from sb3_stable_ppo.common.errors import CollapseError, UsageError
from sb3_stable_ppo.common.packages import PROGRAM
from sb3_stable_ppo.common.patching import patched
from sb3_stable_ppo.common.signals import exit_status

FORMAT = warnings.formatwarning
COMMANDS = {
    "train": "train an agent through rl_zoo3; all flags of rl_zoo3's train work",
    "tune": "search for good hyperparameters with Optuna; several workers, several machines",
    "enjoy": "let a trained agent play, print its scores, write a video; all flags of rl_zoo3's enjoy work",
    "plot": "draw returns with rl_zoo3's plots: of runs (plot train), or evaluations over seeds (plot all)",
    "doctor": "tell whether the network of a saved model lives; exit status 1 if something critical is found",
    "report": "write a page that shows whether a run's network lives, or one that compares several runs",
    "bench": "measure training speed here: stock SB3, then the fast path one option after the other",
}
"""Each has a module in this room with a function ``run``, imported when it is called."""


def parser() -> argparse.ArgumentParser:
    """What stands before a command's own arguments."""
    commands = "\n".join(f"  {name:8}{purpose}" for name, purpose in COMMANDS.items())
    found = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Train PPO with networks that stay alive, and see how they fare. COMMAND --help shows its flags.",
        epilog=f"commands:\n{commands}\n\nexample:\n  {PROGRAM} train --env CartPole-v1 -n 20000",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument(
        "--version", action="version", version=f"{PROGRAM} {__version__}", help="show the version and exit"
    )
    found.add_argument("command", choices=list(COMMANDS), metavar="COMMAND", help="what to do; see below")
    return found


def one_line_warning(message: Warning | str, category: type[Warning], file: str, line: int, code: Any = None) -> str:
    """
    As ``warnings.formatwarning``, but that a ``UserWarning`` is its text alone: where in the code it was given does not
    help whoever typed a command.

    :param message: what is said
    :param category: of the warning
    :param file: the module that warns
    :param line: in it
    :param code: the line of code; None: it is looked up
    :return: what is printed
    """
    if category is UserWarning:
        return f"{PROGRAM}: warning: {message}\n"
    return FORMAT(message, category, file, line, code)


def main(argv: Sequence[str] | None = None) -> int:
    """
    :param argv: the arguments; None: those of the process
    :return: the exit status
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    command = parser().parse_args(argv[:1]).command
    try:
        with patched(warnings, "formatwarning", one_line_warning):
            status: int = import_module(f"sb3_stable_ppo.cli.{command}").run(argv[1:])
        sys.stdout.flush()
    except UsageError as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return 2
    except CollapseError as error:
        print(f"{PROGRAM}: training collapsed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return exit_status()
    except BrokenPipeError:  # whoever reads has had enough, as `head` has; the interpreter's last flush must not fail
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return status


if __name__ == "__main__":
    sys.exit(main())
