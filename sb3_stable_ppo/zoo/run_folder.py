"""
The folder of a run that rl_zoo3 makes: claimed before anything is written, described, given up if made in vain.
"""

from __future__ import annotations

import datetime
import os
import platform
import shutil
import socket
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger, make_output_format
from stable_baselines3.common.utils import get_latest_run_id

from sb3_stable_ppo.checkpoints.folder import CHECKPOINTS, prune
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.common.locks import ProcessLock

PACKAGES = ("sb3-stable-ppo", "stable-baselines3", "sb3-contrib", "rl_zoo3", "torch", "gymnasium", "ale-py", "numpy")


class LockedFolder:
    """
    The folder of a run, which no other process may train at the same time.

    :param path: where it is
    :raises UsageError: if another process trains the run
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._lock = ProcessLock(path)
        except BlockingIOError:
            raise UsageError(f"{path}: another process is training this run.") from None

    def release(self) -> None:
        """Let other processes train the run."""
        self._lock.release()

    def end(self, status: str) -> None:
        """
        Let other processes go on with the run. Of one that has finished, only the last checkpoint stays.

        :param status: how it has ended
        """
        if status == "finished":
            prune(self.path / CHECKPOINTS, 1)
        self.release()

    def give_up(self) -> None:
        """Leave it as it is: it holds what was trained before."""
        self.release()


class ClaimedFolder(LockedFolder):
    """
    A folder that this run alone has made.

    :param path: where it is to be; if another process was faster, it gets the next number
    :raises OSError: if it cannot be made
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self._new_parents = [parent for parent in self.path.parents if not parent.exists()]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._claim()
        except OSError:
            self._remove_parents()
            raise
        super().__init__(self.path)

    def _claim(self) -> None:
        while True:
            try:
                self.path.mkdir()
                return
            except FileExistsError:
                stem, _, number = self.path.name.rpartition("_")
                if not number.isdigit():  # with --uuid no other run can have it
                    raise
                self.path = self.path.with_name(f"{stem}_{int(number) + 1}")

    def give_up(self) -> None:
        """Remove it, and the parents that were made for it."""
        self.release()
        shutil.rmtree(self.path, ignore_errors=True)
        self._remove_parents()

    def _remove_parents(self) -> None:
        """Innermost first, up to the first that is not empty: another run may be in it."""
        for parent in self._new_parents:
            try:
                parent.rmdir()
            except OSError:
                return


def run_logger(folder: str, model: BaseAlgorithm, tensorboard_log: str | None, tables: bool) -> Logger:
    """
    SB3's logger of a run: ``progress.csv`` and TensorBoard's files in its folder.

    :param folder: of the run
    :param model: whose class names its folder in ``tensorboard_log``
    :param tensorboard_log: where TensorBoard's files go instead
    :param tables: whether there are tables on the terminal too
    """
    tensorboard = str(Path(folder) / "tensorboard")
    if tensorboard_log is not None:
        name = type(model).__name__
        tensorboard = str(Path(tensorboard_log) / f"{name}_{get_latest_run_id(tensorboard_log, name) + 1}")
    formats = {"csv": folder, "tensorboard": tensorboard, **({"stdout": folder} if tables else {})}
    return Logger(folder, [make_output_format(name, path) for name, path in formats.items()])


def facts_at_start() -> dict[str, Any]:
    """What ``run.json`` says of the process, the machine and the versions of the packages."""
    return {
        "status": "running",
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "versions": {package: _version(package) for package in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
