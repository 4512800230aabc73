"""
How much of the training time health may take.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

RARELY = 200
"""One measurement in so many is thorough even where the budget has no room for it."""


class Budget:
    """
    Counts the time that measurements take, and tells whether a thorough one has room. What it decides is what is
    measured, never what is trained.

    :param share: of the training time that may be spent; None: every measurement is thorough
    """

    def __init__(self, share: float | None) -> None:
        self.share = share
        self.spent = 0.0
        """Seconds so far, of all measurements."""
        self.thorough_cost = 0.0
        """Seconds that the last thorough measurement took, with what it did before the update and during it."""
        self._started = time.perf_counter()
        self._spent_at_end = 0.0
        self._n_measured = self._since_thorough = 0

    @property
    def elapsed(self) -> float:
        """Seconds of the run so far; of one that goes on, those before it was broken off too."""
        return time.perf_counter() - self._started

    @elapsed.setter
    def elapsed(self, seconds: float) -> None:
        self._started = time.perf_counter() - seconds

    @contextmanager
    def clocked(self) -> Iterator[None]:
        """Count what runs within."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.spent += time.perf_counter() - start

    def allows_thorough(self) -> bool:
        """Whether the next measurement is thorough: the first, one in ``RARELY``, and any that has room."""
        if self.share is None or self._n_measured == 0 or self._since_thorough >= RARELY:
            return True
        return self.spent + self.thorough_cost <= self.share * self.elapsed

    def end_measurement(self, thorough: bool) -> None:
        """
        All that was counted since the last measurement belongs to this one.

        :param thorough: whether it was
        """
        cost, self._spent_at_end = self.spent - self._spent_at_end, self.spent
        self._n_measured += 1
        self._since_thorough = 0 if thorough else self._since_thorough + 1
        if thorough:
            self.thorough_cost = cost
