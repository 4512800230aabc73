"""
What the commands' arguments have in common.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence

from sb3_stable_ppo.errors import UsageError

PROGRAM = "sb3-stable-ppo"


def parser_of(command: str, description: str | None) -> argparse.ArgumentParser:
    """
    :param command: its name
    :param description: what it does
    """
    return argparse.ArgumentParser(prog=f"{PROGRAM} {command}", description=description, allow_abbrev=False)


def natural(text: str, least: int = 0) -> int:
    """A whole number of at least ``least``, or the error that argparse shows."""
    if not text.isdigit() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
    return int(text)


def positive(text: str) -> int:
    """A whole number of at least 1."""
    return natural(text, 1)


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
