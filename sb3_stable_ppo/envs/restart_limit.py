"""
How many workers may die: more than so many within so many minutes are no accidents any more.
"""

from __future__ import annotations

import time
import warnings
from collections import deque

WARN_EVERY_S = 60.0
"""At most one warning in so many seconds; it counts those that were left out."""


class Death(Exception):
    """
    A worker has ended, or gives no answer.

    :param cause: in words
    :param traceback: the worker's own; empty if it had no time to tell one
    """

    def __init__(self, cause: str, traceback: str = "") -> None:
        super().__init__(cause)
        self.cause, self.traceback = cause, traceback

    def told(self) -> str:
        """The cause, and the traceback below it."""
        return f"{self.cause}. Its own traceback:\n{self.traceback.rstrip()}" if self.traceback else f"{self.cause}."


class RestartLimit:
    """
    Counts the deaths of all workers of a vec env.

    :param max_restarts: so many within ``window_minutes`` are made good
    :param window_minutes: minutes
    """

    def __init__(self, max_restarts: int, window_minutes: float) -> None:
        self.max_restarts, self.window_minutes = max_restarts, window_minutes
        self._deaths: deque[float] = deque(maxlen=max_restarts + 1)
        self._last_warning = -WARN_EVERY_S
        self._unwarned = 0

    def count(self, index: int, death: Death) -> None:
        """
        Count a death.

        :param index: of the env
        :param death: how its worker died
        :raises RuntimeError: if it is one too many
        """
        now = time.monotonic()
        self._deaths.append(now)
        if len(self._deaths) > self.max_restarts and now - self._deaths[0] <= 60 * self.window_minutes:
            raise RuntimeError(
                f"Env {index} cannot go on: workers have died {len(self._deaths)} times within {self.window_minutes:g} "
                f"minutes, and max_restarts={self.max_restarts} allows no more; mend the env, or raise max_restarts. "
                f"The last one died of {death.told()}"
            )

    def warn(self, index: int, death: Death, n_restarts: int) -> None:
        """
        Say that a worker was started anew, unless a warning was given a short while ago.

        :param index: of the env
        :param death: how its worker died
        :param n_restarts: of this env so far
        """
        now = time.monotonic()
        if now - self._last_warning < WARN_EVERY_S:
            self._unwarned += 1
            return
        others = f" ({self._unwarned} more restarts since the last warning)" if self._unwarned else ""
        self._last_warning, self._unwarned = now, 0
        warnings.warn(
            f"The worker of env {index} has died of {death.cause}: its episode ends as truncated, and a new worker "
            f"has taken its place (restart {n_restarts} of this env){others}.",
            RuntimeWarning,
            stacklevel=2,
        )
