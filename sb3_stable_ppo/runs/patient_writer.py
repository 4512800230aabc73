"""
The writer of callbacks: training outlives a disk that is full.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from sb3_stable_ppo.common.errors import described
from sb3_stable_ppo.common.files import Array
from sb3_stable_ppo.runs.folder import RunWriter

Result = TypeVar("Result")


class PatientWriter(RunWriter):
    """
    Where something cannot be written (the disk is full, the folder is read-only), it is left out, and the next is tried
    again. The first time, a warning says so.

    :param folder: the run's folder
    :param max_snapshots: when there are more, every second is dropped
    """

    def __init__(self, folder: str | Path, max_snapshots: int = 500) -> None:
        super().__init__(folder, max_snapshots)
        self._warned: set[str] = set()

    def set_aside(self, name: str) -> None:
        """As :class:`RunWriter`'s."""
        self._tried(f"a new name for the earlier {name}", lambda: super(PatientWriter, self).set_aside(name), None)

    def go_back_to(self, step: int) -> None:
        """As :class:`RunWriter`'s."""
        what = f"a file for what is beyond step {step:,}"
        self._tried(what, lambda: super(PatientWriter, self).go_back_to(step), None)

    def health(self, step: int, figures: Mapping[str, Any]) -> None:
        """As :class:`RunWriter`'s."""
        self._tried("a line of health.jsonl", lambda: super(PatientWriter, self).health(step, figures), None)

    def observation(self, observation: Mapping[str, Array]) -> None:
        """As :class:`RunWriter`'s."""
        self._tried("the snapshots' observation", lambda: super(PatientWriter, self).observation(observation), None)

    def snapshot(self, step: int, activations: Mapping[str, Array]) -> list[int]:
        """As :class:`RunWriter`'s."""
        return self._tried("a snapshot", lambda: super(PatientWriter, self).snapshot(step, activations), [])

    def _tried(self, what: str, write: Callable[[], Result], otherwise: Result) -> Result:
        try:
            return write()
        except OSError as error:
            if what not in self._warned:
                warnings.warn(
                    f"{self.folder}: {what} could not be written ({described(error, 200)}). Training goes on without "
                    "it; the next is tried again.",
                    stacklevel=3,
                )
                self._warned.add(what)
            return otherwise
