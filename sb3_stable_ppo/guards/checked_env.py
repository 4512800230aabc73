"""
Observations and rewards that are not finite, caught as the env gives them: before the policy sees them and before they
reach the buffer. Networks compute in float32: a number of float64 that is too large for it is infinite to them.

The env itself stays as it is (callbacks may save or copy it in the middle of a rollout): ``collect_rollouts`` is given
a wrapper around it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from sb3_stable_ppo.common.errors import CollapseError

Observations = Any
"""What a VecEnv gives: an array of shape (n_envs, ...), or for Dict spaces one per key."""
WarnOnce = Callable[[str, str], None]
CURE = "set guards={'on_nonfinite_obs': 'repeat_last'}"
FEW_VALUES = 128
"""Up to here Python's own sum is faster than NumPy's, whose first call after other work costs about 8 µs."""
LARGEST = float(np.finfo(np.float32).max)


class CheckedVecEnv(VecEnvWrapper):
    """
    Checks what each step of an env gives.

    :param venv: the env; images of bytes are always finite and cost nothing
    :param warn_once: takes a kind of event and a sentence about it, for the user
    :param cure: how a user lets the last observation be repeated, for the error
    """

    def __init__(self, venv: VecEnv, warn_once: WarnOnce, cure: str = CURE) -> None:
        super().__init__(venv)
        self.warn_once, self.cure = warn_once, cure
        self.has_floats = has_floats(venv.observation_space)
        self.begin("raise", 0, None)

    def __deepcopy__(self, memo: dict[int, Any]) -> CheckedVecEnv:
        """SB3's wrappers cannot be copied; this one holds nothing that a new one, between rollouts, has to know."""
        return CheckedVecEnv(copy.deepcopy(self.venv, memo), copy.deepcopy(self.warn_once, memo), self.cure)

    def __reduce__(self) -> tuple[Any, ...]:
        """SB3's wrappers cannot be pickled either."""
        return CheckedVecEnv, (self.venv, self.warn_once, self.cure)

    def begin(self, rule: str, step: int, observations: Observations) -> Observations:
        """
        Before a rollout.

        :param rule: ``raise`` or ``repeat_last``
        :param step: timesteps so far
        :param observations: those the rollout starts from
        :return: the same, finite
        :raises CollapseError: with rule ``raise``
        """
        self.rule, self.step_count, self.steps = rule, step, 0
        self.bad_observations = np.zeros(self.num_envs, dtype=np.int64)
        self.bad_rewards = np.zeros(self.num_envs, dtype=np.int64)
        self.blind_steps = np.zeros(self.num_envs, dtype=np.int64)  # steps, where bad_observations counts fields
        self.last: Observations = None
        if self.has_floats and observations is not None:
            self.last = self._checked(observations, None)
            self.bad_observations[:] = 0  # of the rollout's own steps alone
        return observations if self.last is None else self.last

    def reset(self) -> Any:
        return self.venv.reset()

    def step(self, actions: np.ndarray) -> Any:
        """By the ``step`` of what it wraps, of which a wrapper of the user's may have its own."""
        return self.check(*self.venv.step(actions))

    def step_wait(self) -> Any:
        return self.check(*self.venv.step_wait())

    def check(self, observations: Observations, rewards: np.ndarray, dones: np.ndarray, infos: Any) -> Any:
        """
        What a step gave, made finite.

        :param observations: of all envs; the env's own arrays are not written to
        :param rewards: shape (n_envs,)
        :param dones: shape (n_envs,)
        :param infos: one dict for each env
        :return: the four
        :raises CollapseError: with rule ``raise``
        """
        self.steps += 1
        self.step_count += self.num_envs
        if not seems_finite(rewards):
            rewards = self._checked_rewards(rewards)
        if self.has_floats:
            if not seems_finite(observations):
                before_step = self.bad_observations.copy()
                observations = self._checked(observations, self.last)
                self.blind_steps += self.bad_observations > before_step
            for index in np.flatnonzero(dones).tolist() if any(dones.tolist()) else ():
                terminal = infos[index].get("terminal_observation")
                if terminal is not None:
                    before = None if self.last is None else _row(self.last, index)
                    infos[index]["terminal_observation"] = _row(
                        self._checked(_batch(terminal), _batch(before), index), 0
                    )
            self.last = observations
        return observations, rewards, dones, infos

    def end(self) -> None:
        """
        After a rollout.

        :raises CollapseError: if an env gave nothing finite in all of it: there is nothing left to learn from
        """
        for what, counts in (("observation", self.blind_steps), ("reward", self.bad_rewards)):
            hopeless = np.flatnonzero(counts >= max(self.steps, 1))
            if hopeless.size and self.steps > 1:
                hint = normalizer_hint(self.venv)
                raise CollapseError(
                    f"Not one {what} of env {int(hopeless[0])} was finite in a whole rollout of {self.steps} steps."
                    f"{hint} Mend the env: find what makes NaN or infinity in it, such as a division by zero."
                    f"{' Then load statistics from before.' if hint else ''}"
                )

    def _checked_rewards(self, rewards: np.ndarray) -> np.ndarray:
        finite = finite_in_float32(rewards)
        bad = int((~finite).sum())
        if bad:
            self.bad_rewards += ~finite
            self.warn_once(
                "rewards", f"rewards at step {self.step_count}: {bad} of {finite.size} are not finite and become 0."
            )
            rewards = np.where(finite, rewards, np.zeros_like(rewards))
        return rewards

    def _checked(self, observations: Observations, last: Observations, env: int | None = None) -> Observations:
        fields = dict(observations) if isinstance(observations, dict) else {"observation": observations}
        for name, given in fields.items():
            if not np.issubdtype(given.dtype, np.floating) or seems_finite(given):
                continue
            fields[name] = array = given.copy()  # the env may need its own, or have made it read-only
            finite = finite_in_float32(array)
            for row in map(int, np.flatnonzero(~finite.reshape(len(array), -1).all(axis=1))):
                bad, index = int((~finite[row]).sum()), row if env is None else env
                where = f"{name} of env {index} at step {self.step_count}"
                kind = "not finite" if array.dtype != np.float64 else "not finite in float32, in which networks compute"
                text = f"{where}: {bad} of {array[row].size} values are {kind}."
                if self.rule == "raise":
                    raise CollapseError(f"{text}{normalizer_hint(self.venv)} Mend the env, or {self.cure}.")
                self.warn_once(f"observations of {name}", f"{text} The one before is repeated.")
                self.bad_observations[index] += 1
                before = None if last is None else (last[name] if isinstance(last, dict) else last)[row]
                array[row] = np.where(finite[row], array[row], 0) if before is None else before
        return fields if isinstance(observations, dict) else fields["observation"]


def normalizer_hint(env: VecEnv) -> str:
    """
    A sentence if a ``VecNormalize`` has taken in a bad value: from then on all that it gives is bad.

    :param env: with whatever wrappers
    """
    while isinstance(env, VecEnvWrapper):
        for name in ("obs_rms", "ret_rms"):
            statistics = getattr(env, name, None)
            for part in statistics.values() if isinstance(statistics, dict) else [statistics]:
                if part is not None and not (np.isfinite(part.mean).all() and np.isfinite(part.var).all()):
                    return (
                        f" {name} of VecNormalize is not finite: it took in a bad value, and gives no good one again."
                    )
        env = env.venv
    return ""


def seems_finite(observations: Observations) -> bool:
    """
    A quick look, which each step pays for: the sum is not finite if any value is not. It can overflow too, so a False
    asks for a closer look. In float64 it is the sum of the squares, which is large if any value is.
    """
    if isinstance(observations, dict):
        return all(seems_finite(array) for array in observations.values())
    if observations.dtype == np.float64:
        return bool(np.vdot(observations, observations) <= LARGEST**2)
    if observations.size <= FEW_VALUES:
        return math.isfinite(sum(observations.ravel().tolist()))
    return math.isfinite(np.add.reduce(observations, axis=None))


def finite_in_float32(array: np.ndarray) -> Any:
    """Where an array holds what is finite to a network, too."""
    return np.abs(array) <= LARGEST if array.dtype.itemsize > 4 else np.isfinite(array)  # NaN is not below anything


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
