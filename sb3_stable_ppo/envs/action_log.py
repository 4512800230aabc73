"""
The way back to a state that an emulator cannot save: the seeds of its last reset, and the actions since.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sb3_stable_ppo.common.errors import UsageError


class ActionLog:
    """
    Seeds and actions of a vec env since its last reset. Played again in a fresh env, they lead to the same state, where
    a reset with a seed is complete and a step draws no random number from elsewhere.

    :param settings: all that the envs are built with, by the names of the arguments; ``n_envs`` is among them
    :param length: after so many steps the envs have to be reset
    """

    def __init__(self, settings: Mapping[str, Any], length: int) -> None:
        self._settings = dict(settings)
        self._seeds: list[int] = []
        self._round = 0
        self._actions = np.zeros((length, settings["n_envs"]), dtype=np.uint8)
        self._count = 0

    def begin(self, seeds: Sequence[int | None]) -> list[int]:
        """
        Forget the actions: the envs are about to be reset.

        :param seeds: one for each env, as ``VecEnv.seed`` was given them; None: they follow from those of the reset
            before, so that every run has the same
        :return: the seed of each env
        """
        self._count = 0
        given = [int(seed) for seed in seeds if seed is not None]
        if len(given) == len(seeds):
            self._seeds, self._round = given, 0
        else:
            self._round += 1
        return self.seeds

    @property
    def seeds(self) -> list[int]:
        """Of the last reset; none before the first."""
        if self._round == 0:
            return self._seeds
        return [int(np.random.SeedSequence((seed, self._round)).generate_state(1)[0]) for seed in self._seeds]

    def add(self, actions: np.ndarray) -> None:
        """
        :param actions: of a step; numbers below 256, one for each env
        """
        self._actions[self._count] = actions
        self._count += 1

    @property
    def is_full(self) -> bool:
        """Whether the envs have to be reset."""
        return self._count == len(self._actions)

    def state_dict(self) -> dict[str, Any]:
        """Plain values, and the actions: uint8 of shape (steps, n_envs)."""
        actions = self._actions[: self._count].copy()
        return {"settings": self._settings, "seeds": self._seeds, "round": self._round, "actions": actions}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """
        Take the seeds. The actions are for the caller to play, and come back by :meth:`add`.

        :param state: of :meth:`state_dict`
        :raises UsageError: if the envs were built in another way
        """
        before = state["settings"]
        for name, now in self._settings.items():
            if before.get(name) != now:
                raise UsageError(
                    f"The env of the checkpoint has {name}={before.get(name)!r}, and this one has {now!r}: build it as "
                    "in the first run."
                )
        self._seeds, self._round, self._count = list(state["seeds"]), int(state["round"]), 0
