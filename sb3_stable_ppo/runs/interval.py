"""
How often a callback acts: each so many environment steps, or each so many updates.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_stable_ppo.common.checks import whole_number


class Interval(NamedTuple):
    """
    A number of environment steps or of updates.

    >>> Interval.of(None, 2)
    Interval(number=2, unit='updates')
    """

    number: int
    unit: Literal["steps", "updates"]

    @classmethod
    def of(cls, every: Any, every_updates: Any) -> Interval | None:
        """
        From a callback's arguments.

        :param every: environment steps, or None
        :param every_updates: updates, or None
        :return: None where neither is given
        :raises ValueError: where both are, or where one is no whole number of at least 1
        """
        if every is not None and every_updates is not None:
            raise ValueError(
                f"every={every!r} counts environment steps, every_updates={every_updates!r} counts updates, and both "
                "are given. Leave one of them out."
            )
        if every is not None:
            return cls(whole_number(every, "every", 1), "steps")
        if every_updates is not None:
            return cls(whole_number(every_updates, "every_updates", 1), "updates")
        return None


class UpdateCounter:
    """
    Counts the updates of any SB3 algorithm; one update is one ``train()``, as our schedules count.

    SB3 has no hook behind ``train()``: a changed ``_n_updates`` at the start of the next rollout tells that one was.
    """

    def __init__(self) -> None:
        self.count = 0
        self._model: BaseAlgorithm | None = None

    def begin(self, model: BaseAlgorithm, count: int = 0) -> None:
        """
        Count from now on.

        :param model: that is going to be trained
        :param count: of the updates before
        """
        self.count, self._model, self._n_updates = count, model, model._n_updates

    def look(self) -> bool:
        """
        Count an update if there was one since the last look. To be called at each rollout's start and at the end of
        training, which rl_zoo3 calls even where training has not begun.
        """
        if self._model is None or self._model._n_updates == self._n_updates:
            return False
        self._n_updates = self._model._n_updates
        self.count += 1
        return True
