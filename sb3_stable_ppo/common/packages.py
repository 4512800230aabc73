"""
This program's name, and the import of modules that a user names.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence

from sb3_stable_ppo.common.errors import UsageError

PROGRAM = "sb3-stable-ppo"


def import_packages(names: Sequence[str]) -> None:
    """
    Import the modules that register a user's envs.

    :param names: of modules
    :raises UsageError: if one cannot be imported
    """
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UsageError(f"--gym-packages {name}: {error}.") from error
