"""
Our commands, and code as ``python -c`` runs it, in processes forked from one that has SB3 and rl_zoo3 imported (see
``conftest``): a hundred of them would spend minutes on imports.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import sys
import tempfile
import types
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Done(NamedTuple):
    """A process that has ended: its exit status, and what it has printed to both streams."""

    status: int | None
    printed: str


def run_command(arguments: list[str], folder: Path, environment: Mapping[str, str]) -> Done:
    """
    :param arguments: of ``sb3-stable-ppo``
    :param folder: in which it runs
    :param environment: its variables
    """
    return _forked(_command, arguments, folder, environment)


def run_code(code: str, folder: Path, environment: Mapping[str, str]) -> Done:
    """
    :param code: in which a deprecation is an error
    :param folder: in which it runs
    :param environment: its variables
    """
    return _forked(_code, code, folder, environment)


def _forked(target: Callable[[Any], int], what: Any, folder: Path, environment: Mapping[str, str]) -> Done:
    with tempfile.NamedTemporaryFile("r") as output:
        args = (target, what, str(folder), dict(environment), output.name)
        process = mp.get_context("forkserver").Process(target=_in_its_place, args=args)
        process.start()
        process.join(300)
        process.kill()
        return Done(process.exitcode, output.read())


def _in_its_place(
    target: Callable[[Any], int], what: Any, folder: str, environment: dict[str, str], output: str
) -> None:
    file = os.open(output, os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.exit(target(what))


def _command(arguments: list[str]) -> int:
    from sb3_stable_ppo.cli.app import main

    return main(arguments)


def _code(code: str) -> int:
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    warnings.filterwarnings("error", category=DeprecationWarning, module="__main__")
    exec(compile(code, "<string>", "exec"), main.__dict__)
    return 0
