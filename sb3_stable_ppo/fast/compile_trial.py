"""
``compile: auto`` tries both on the run's own minibatches, and keeps the faster.

On a processor whose matrix products are slow, what ``torch.compile`` fuses is a small part of an update, and its calls
can cost more than they save.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

from sb3_stable_ppo.fast.config import log

WARM_UP, MEASURED = 2, 8
"""Minibatches of each kind: the first compile, or run for the first time; of the others the median counts."""


class CompileTrial:
    """
    A minibatch takes from its own beginning to that of the next: forward, loss, backward and the optimizer's step.
    Compiled and uncompiled ones take turns until there are enough of both. Copies try anew.

    :param clock: in seconds
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self._begin()

    def _begin(self) -> None:
        self.compiles, self.is_over = True, False
        """Whether the minibatch that has begun is, or all from now on are, to run compiled; and which of both it is."""
        self._seconds: dict[bool, list[float]] = {True: [], False: []}
        self._rows: int | None = None
        self._began_at: float | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"clock": self.clock}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.clock = state["clock"]
        self._begin()

    def next_minibatch(self, rows: int) -> None:
        """
        A minibatch of an update begins.

        :param rows: of it; one of another size than the first, such as a truncated last one, does not count
        """
        if self.is_over:
            return
        now = self.clock()
        self._rows = self._rows or rows
        if self._began_at is not None:
            self._seconds[self.compiles].append(now - self._began_at)
        self._began_at = now if rows == self._rows else None
        self.compiles = len(self._seconds[True]) <= len(self._seconds[False])
        if min(map(len, self._seconds.values())) >= WARM_UP + MEASURED:
            compiled, eager = (median(self._seconds[kind][WARM_UP:]) for kind in (True, False))
            self.end(compiled < eager)
            log.info(
                "compile: auto goes on %s: a minibatch of %d takes %.3g ms compiled, %.3g ms uncompiled",
                "compiled" if self.compiles else "uncompiled", rows, 1000 * compiled, 1000 * eager,
            )  # fmt: skip

    def pause(self) -> None:
        """What comes next is no minibatch: an update has ended, or not yet begun."""
        self._began_at = None

    def end(self, compiles: bool) -> None:
        """
        :param compiles: whether all minibatches from now on are to run compiled
        """
        self.compiles, self.is_over = compiles, True
