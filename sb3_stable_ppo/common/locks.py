"""
Locks by which one process tells others that it is at work on a file or folder.
"""

from __future__ import annotations

import importlib
import os
import weakref
from contextlib import suppress
from pathlib import Path


class ProcessLock:
    """
    The lock of a file or folder. The operating system takes it back when the process ends, however it ends. A process
    that is forked later, as that of an env, does not hold it: it may outlive this one.

    Windows has no such locks, nor has every network file system: there ``is_held`` is False.

    :param path: the file or folder
    :raises BlockingIOError: if another process holds it
    """

    def __init__(self, path: Path) -> None:
        self._handle: int | None = None
        with suppress(ImportError):
            fcntl = importlib.import_module("fcntl")
            try:
                # of a folder, which cannot be opened to be written; NFS locks only what can
                self._handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _held.add(self)
            except BlockingIOError:
                self.release()
                raise
            except OSError:
                self.release()

    @property
    def is_held(self) -> bool:
        """Whether this process holds it."""
        return self._handle is not None

    def release(self) -> None:
        """Give the lock back."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


_held: weakref.WeakSet[ProcessLock] = weakref.WeakSet()


def _release_in_child() -> None:
    for lock in list(_held):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_in_child)
