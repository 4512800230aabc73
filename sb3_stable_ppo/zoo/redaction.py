"""
rl_zoo3 keeps the command line and the study in many places: here without the password of the study's database.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import rl_zoo3.exp_manager

from sb3_stable_ppo.common.patching import patched
from sb3_stable_ppo.studies.storage import is_file, without_password


def redacted_arguments(args: argparse.Namespace, storage: str | None) -> argparse.Namespace:
    """
    :param args: of rl_zoo3's ``train``, which writes them to ``args.yml``
    :param storage: of a study
    :return: a copy, whose ``storage`` may be shown
    """
    return argparse.Namespace(**vars(args) if storage is None else {**vars(args), "storage": _shown(storage)})


@contextmanager
def redacted_command(storage: str | None) -> Iterator[None]:
    """
    Within, ``sys.orig_argv`` may be shown: rl_zoo3 writes it to ``command.txt`` and to a study's attributes.

    :param storage: of a study
    """
    if storage is None:
        yield
        return
    command = [word.replace(storage, _shown(storage)) for word in sys.orig_argv]
    with patched(sys, "orig_argv", command):
        yield


@contextmanager
def unpickled_study(storage: str | None) -> Iterator[None]:
    """
    Within, ``ExperimentManager.hyperparameters_optimization`` does not pickle a study that is in a database, whose URL
    the pickle would hold. What would be in the pickle is in the database.

    :param storage: of the study
    """
    if storage is None or is_file(storage):
        yield
        return
    no_pickle = _NoPickle()
    try:
        with patched(rl_zoo3.exp_manager, "pkl", no_pickle):
            yield
    finally:
        for path in no_pickle.paths:
            path.unlink(missing_ok=True)


class _NoPickle:
    """Stands in for the module ``pickle``: writes nothing, and remembers where it would have been."""

    def __init__(self) -> None:
        self.paths: list[Path] = []

    def dump(self, _: Any, file: IO[bytes]) -> None:
        self.paths.append(Path(file.name))


def _shown(storage: str) -> str:
    return without_password(storage)[0]
