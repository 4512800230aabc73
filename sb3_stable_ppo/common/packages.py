"""
This program's name and how to call it, and the import of modules that a user names.
"""

from __future__ import annotations

import importlib
import importlib.util
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from sb3_stable_ppo.common.errors import UsageError, described

PROGRAM = "sb3-stable-ppo"


def command_line(*arguments: str) -> str:
    """
    A call of this program that works where it is pasted: by its name if that is this environment's, else by its path.

    :param arguments: of the call; they are quoted for a shell
    """
    script = Path(sys.executable).with_name(PROGRAM)
    if shutil.which(PROGRAM) == str(script):
        program = [PROGRAM]
    elif script.is_file():
        program = [str(script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script)]
    else:
        program = [sys.executable, "-m", "sb3_stable_ppo"]
    return shlex.join([*program, *arguments])


def import_packages(names: Sequence[str]) -> None:
    """
    Import the modules that register a user's envs.

    :param names: of modules
    :raises UsageError: if one cannot be imported
    """
    for name in names:
        try:
            import_here(name)
        except ImportError as error:
            raise UsageError(f"gym_packages (--gym-packages) {name}: {error}.") from error
        except Exception as error:  # whatever somebody's code may raise
            raise UsageError(f"gym_packages (--gym-packages) {name}: {described(error, 300)}.") from error


def import_here(name: str) -> ModuleType:
    """
    Import a module, also one in the current folder, where ``python -m`` finds it and a console script does not.

    :param name: dotted
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        here = str(Path.cwd())
        if error.name != name.partition(".")[0] or {"", here} & set(sys.path):
            raise
    sys.path.append(here)
    return importlib.import_module(name)
