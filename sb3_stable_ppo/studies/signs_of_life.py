"""
How processes that share a journal, on machines that cannot see each other's processes, tell a worker that died: each
holds a lock on a file beside the journal, which the operating system takes back however the process ends.

In a database it is Optuna's heartbeats that tell. Where there are no such locks, as on Windows, nothing is known.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sb3_stable_ppo.studies.worker_names import own_name


@contextmanager
def sign_of_life(journal: str) -> Iterator[None]:
    """
    Within this context other processes can tell that this one lives.

    :param journal: the file
    """
    path = _path(journal, own_name())
    handles: list[int] = []

    def close() -> None:
        while handles:
            os.close(handles.pop())

    with suppress(ImportError, OSError):
        fcntl = importlib.import_module("fcntl")
        path.parent.mkdir(exist_ok=True)
        handles.append(os.open(path, os.O_CREAT | os.O_RDWR))
        os.register_at_fork(after_in_child=close)  # a process of an env may outlive this one
        fcntl.flock(handles[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        close()
        with suppress(OSError):  # other workers have theirs in it
            path.parent.rmdir()


def has_died(journal: str, worker: str) -> bool:
    """
    Whether a worker has left its sign behind. Of one that has none, as one of an earlier version, nothing is known.

    :param journal: the file
    :param worker: a name of :func:`~sb3_stable_ppo.studies.worker_names.own_name`
    """
    with suppress(ImportError, OSError):  # BlockingIOError: it lives
        fcntl = importlib.import_module("fcntl")
        handle = os.open(_path(journal, worker), os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(handle)
        return True
    return False


def _path(journal: str, worker: str) -> Path:
    return Path(f"{journal}.workers", worker.replace(":", "_"))
