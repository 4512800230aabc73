"""
The base of all callbacks that write to a run folder.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import ClassVar

from stable_baselines3.common.callbacks import BaseCallback

from sb3_stable_ppo.common.callbacks import callbacks_within
from sb3_stable_ppo.common.checks import whole_number
from sb3_stable_ppo.runs.no_folder import NoWriter
from sb3_stable_ppo.runs.patient_writer import PatientWriter


class RunCallback(BaseCallback):
    """
    Base of the callbacks that write to a run folder.

    What an earlier run left in the folder is set aside (``snapshots.1``), unless this one goes on with it
    (``reset_num_timesteps=False``).

    :param folder: the run folder; None: the logger's (``tensorboard_log``, that of ``set_logger``, or the run's own
        under our command line). Where the logger has none either, no file is written, and a warning says so
    :param max_snapshots: when there are more, every second is dropped
    :param verbose: SB3's verbosity
    """

    parts: ClassVar[tuple[str, ...]]
    """The files and folders within the run folder that are this callback's own."""

    def __init__(self, folder: str | Path | None = None, max_snapshots: int = 500, verbose: int = 0) -> None:
        super().__init__(verbose)
        self.folder = folder
        self.max_snapshots = whole_number(max_snapshots, "max_snapshots", 1)

    def _on_training_start(self) -> None:
        folder, name = self._run_folder(), type(self).__name__
        is_second = folder is not None and folder in self._taken_folders()
        self.writer = PatientWriter(folder, self.max_snapshots) if folder and not is_second else NoWriter()
        if is_second:
            warnings.warn(
                f"Two callbacks of the class {name} would write to {folder}: the second writes nothing. Leave it out, "
                f"or give it a folder of its own, {name}(folder=...).",
                stacklevel=2,
            )
        if not folder:
            warnings.warn(
                f"{name} has no folder: {self._without_folder()}. "
                f"For files, write {name}(folder=...) or give the algorithm a tensorboard_log.",
                stacklevel=2,
            )
        if self.locals.get("reset_num_timesteps", True):
            for part in self.parts:
                self.writer.set_aside(part)
        else:
            self.writer.go_back_to(self.num_timesteps)

    def _run_folder(self) -> Path | None:
        # A logger that nobody asked for has a temporary folder, in which nobody would look.
        asked_for = self.model.tensorboard_log is not None or self.model._custom_logger
        folder = self.folder or (self.logger.get_dir() if asked_for else None)
        return Path(folder) if folder else None

    def _taken_folders(self) -> list[Path | None]:
        """The folders of the callbacks of the same class that come before this one in ``learn()``'s."""
        alike = [each for each in callbacks_within(self.locals.get("callback")) if type(each) is type(self)]
        before = alike[: alike.index(self)] if self in alike else []
        return [each._run_folder() for each in before]

    def _without_folder(self) -> str:
        """What becomes of the run where there is no folder; the middle of a warning."""
        return "it writes no files"

    def _on_step(self) -> bool:
        return True
