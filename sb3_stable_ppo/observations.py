"""
Observations that are not finite, caught while acting: before the policy sees them and before they reach the buffer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from sb3_stable_ppo.guard_config import CollapseError
from sb3_stable_ppo.patching import replaced

Observations = Any
"""What a VecEnv gives: an array of shape (n_envs, ...), or for Dict spaces one per key."""
FEW_VALUES = 128
"""Up to here Python's own sum is faster than NumPy's, whose first call after other work costs about 8 µs."""


class ObservationGuard:
    """Counts the observations that were not finite since ``count`` was last set to 0."""

    def __init__(self) -> None:
        self.count = 0

    @contextmanager
    def watching(self, model: OnPolicyAlgorithm, env: VecEnv, rule: str) -> Iterator[None]:
        """
        Check the observations that the env gives, and the one that a rollout starts from.

        :param model: whose ``_last_obs`` that is
        :param env: its env; images of bytes are always finite and cost nothing
        :param rule: ``raise`` or ``repeat_last``
        :raises CollapseError: with rule ``raise``, naming env, field and step
        """
        if not has_floats(env.observation_space):
            yield
            return
        step = env.step
        last: Observations = self._checked(model._last_obs, None, rule, model.num_timesteps)
        model._last_obs = last

        def guarded_step(actions: Any) -> Any:
            nonlocal last
            observations, rewards, dones, infos = step(actions)
            if not seems_finite(observations):
                observations = self._checked(observations, last, rule, model.num_timesteps)
            for index in np.flatnonzero(dones).tolist() if any(dones.tolist()) else ():
                terminal = infos[index].get("terminal_observation")
                if terminal is not None:
                    before = None if last is None else _row(last, index)
                    checked = self._checked(_batch(terminal), _batch(before), rule, model.num_timesteps, index)
                    infos[index]["terminal_observation"] = _row(checked, 0)
            last = observations
            return observations, rewards, dones, infos

        with replaced(env, "step", guarded_step):
            yield

    def _checked(
        self, observations: Observations, last: Observations, rule: str, step: int, env: int | None = None
    ) -> Observations:
        fields = observations if isinstance(observations, dict) else {"observation": observations}
        for name, array in fields.items():
            if not np.issubdtype(array.dtype, np.floating) or seems_finite(array):
                continue
            for row in map(int, np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))):
                bad = int((~np.isfinite(array[row])).sum())
                if rule == "raise":
                    raise CollapseError(
                        f"{name} of env {row if env is None else env} at step {step}: {bad} of {array[row].size} "
                        "values are not finite. Mend the env, or set guards={'on_nonfinite_obs': 'repeat_last'}."
                    )
                self.count += 1
                before = None if last is None else (last[name] if isinstance(last, dict) else last)[row]
                array[row] = np.nan_to_num(array[row], nan=0, posinf=0, neginf=0) if before is None else before
        return observations


def seems_finite(observations: Observations) -> bool:
    """
    A quick look, which each step pays for: the sum is not finite if any value is not. It can overflow too, so a False
    asks for a closer look.
    """
    if isinstance(observations, dict):
        return all(seems_finite(array) for array in observations.values())
    if observations.size <= FEW_VALUES:
        return math.isfinite(sum(observations.ravel().tolist()))
    return math.isfinite(np.add.reduce(observations, axis=None))


def has_floats(space: spaces.Space[Any]) -> bool:
    """Whether observations of this space can be other than finite."""
    if isinstance(space, spaces.Dict):
        return any(has_floats(child) for child in space.spaces.values())
    return space.dtype is not None and np.issubdtype(space.dtype, np.floating)


def _row(observations: Observations, index: int) -> Observations:
    """One env's observation."""
    if isinstance(observations, dict):
        return {key: array[index] for key, array in observations.items()}
    return observations[index]


def _batch(observation: Observations) -> Observations:
    """One env's observation as a batch of one; None stays None."""
    if observation is None:
        return None
    if isinstance(observation, dict):
        return {key: np.array(array)[None] for key, array in observation.items()}
    return np.array(observation)[None]
