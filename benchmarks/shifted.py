"""One task after another: an env whose observations are shifted by another constant in each, and what was returned."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.monitor import Monitor

SHIFT = 2.0
"""Standard deviation of the shifts, as C-CHAIN has it."""


class Shifted(gym.Wrapper[Any, Any, Any, Any]):
    """
    Adds a constant to the observations, another one in each task, and divides the rewards.

    :param env: any, with vectors
    :param shifts: of the tasks, shape (tasks, size)
    :param task_steps: of each task
    :param reward_scale: by which rewards are divided
    """

    def __init__(self, env: gym.Env[Any, Any], shifts: np.ndarray, task_steps: int, reward_scale: float = 1.0) -> None:
        super().__init__(env)
        size = env.observation_space.shape
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, size, np.float32)
        self.shifts, self.task_steps, self.steps = shifts.astype(np.float32), task_steps, 0
        self.reward_scale = reward_scale

    def _shifted(self, observation: np.ndarray) -> np.ndarray:
        shift: np.ndarray = self.shifts[min(self.steps // self.task_steps, len(self.shifts) - 1)]
        shifted: np.ndarray = observation.astype(np.float32) + shift
        return shifted

    def reset(self, **kwargs: Any) -> tuple[np.ndarray, dict[str, Any]]:
        observation, info = self.env.reset(**kwargs)
        return self._shifted(observation), info

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.steps += 1
        return self._shifted(observation), float(reward) / self.reward_scale, terminated, truncated, info


def shifted_env(
    env_id: str, seed: int, tasks: int, task_steps: int, longest: int | None = None, reward_scale: float = 1.0
) -> Shifted:
    """
    An env whose first task has no shift. Its Monitor reports returns as they are.

    :param env_id: of an env with vectors
    :param seed: of the shifts
    :param tasks: one after another
    :param task_steps: of each
    :param longest: steps of an episode at most; None: as the env has it
    :param reward_scale: by which rewards are divided
    """
    env = gym.make(env_id, max_episode_steps=longest)
    shifts = np.random.default_rng(seed).normal(0, SHIFT, (tasks, *(env.observation_space.shape or ())))
    shifts[0] = 0
    return Shifted(Monitor(env), shifts, task_steps, reward_scale)


def task_returns(ended: Sequence[tuple[int, float]], tasks: int, task_steps: int) -> dict[str, list[float | None]]:
    """
    >>> task_returns([(2, 1.0), (4, 3.0), (10, 5.0)], 3, 4)
    {'returns': [2.0, None, 5.0], 'late_returns': [3.0, None, None]}

    :param ended: step and return of each episode
    :param tasks: one after another
    :param task_steps: of each
    :return: of each task the mean return of its episodes, and of those in its second half; None where none ended
    """

    def middle(first: float, last: float) -> float | None:
        own = [ret for step, ret in ended if first < step <= last]
        return round(mean(own), 2) if own else None

    bounds = [(task * task_steps, (task + 1) * task_steps) for task in range(tasks)]
    late = [(first + task_steps / 2, last) for first, last in bounds]
    return {"returns": [middle(*each) for each in bounds], "late_returns": [middle(*each) for each in late]}
