"""
How processes that share a journal, on machines that cannot see each other's processes, tell a worker that died. Each
worker has a file beside the journal, on which it holds a lock, and which it touches now and then. One that nobody locks
and that has not been touched for long is of a dead worker. (The lock alone does not tell: some network file systems
keep locks to one machine.)

In a database it is Optuna's heartbeats that tell. Where there are no such locks, as on Windows, nothing is known.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sb3_stable_ppo.common.locks import ProcessLock
from sb3_stable_ppo.studies.worker_names import own_name

TOUCHED_S = 20.0
"""Seconds between two touches."""
SILENT_S = 180.0
"""A worker that nobody locks for is dead after so many seconds without a touch."""


@contextmanager
def sign_of_life(journal: str) -> Iterator[None]:
    """
    Within this context other processes can tell that this one lives.

    :param journal: the file
    """
    path = _path(journal, own_name())
    lock: ProcessLock | None = None
    with suppress(OSError):  # BlockingIOError too: another worker looks at it just now
        path.parent.mkdir(exist_ok=True)
        path.touch()
        lock = ProcessLock(path)
    ended = threading.Event()
    thread = threading.Thread(target=_touch, args=(path, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        if lock is not None:
            lock.release()
        with suppress(OSError):
            path.unlink()
            path.parent.rmdir()  # unless other workers have theirs in it


def _touch(path: Path, ended: threading.Event) -> None:
    while not ended.wait(TOUCHED_S):
        with suppress(OSError):
            os.utime(path)


def has_died(journal: str, worker: str) -> bool:
    """
    Whether a worker has left its sign behind: nobody locks it, and it was not touched for ``SILENT_S``. Of a worker
    without a sign, as one of an earlier version, nothing is known.

    :param journal: the file
    :param worker: a name of :func:`~sb3_stable_ppo.studies.worker_names.own_name`
    """
    path = _path(journal, worker)
    with suppress(OSError):  # BlockingIOError: it lives
        lock = ProcessLock(path)
        try:
            return lock.is_held and _now(path.parent) - path.stat().st_mtime > SILENT_S
        finally:
            lock.release()
    return False


def _now(folder: Path) -> float:
    """By the clock of the file system, which may be another machine's."""
    probe = folder / f".{own_name().replace(':', '_')}"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink()


def _path(journal: str, worker: str) -> Path:
    return Path(f"{journal}.workers", worker.replace(":", "_"))
