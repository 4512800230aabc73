"""What the conformance suites share: the three algorithms, an env of every action space, and identity with stock."""

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from helpers.envs import SceneEnv
from helpers.guarded import Logged
from helpers.weights import assert_same_weights
from sb3_stable_ppo import (
    StableMaskablePPO,
    StablePPO,
    StableRecurrentPPO,
)

PAIRS = {StablePPO: PPO, StableMaskablePPO: MaskablePPO, StableRecurrentPPO: RecurrentPPO}

ALL = pytest.mark.parametrize("algorithm", PAIRS, ids=lambda a: a.__name__)

SMALL: dict[str, Any] = {"n_steps": 16, "batch_size": 8, "n_epochs": 2, "seed": 0, "learning_rate": 1e-3}

ACTION_SPACES = {
    "discrete": spaces.Discrete(3),
    "multi_discrete": spaces.MultiDiscrete([2, 3]),
    "multi_binary": spaces.MultiBinary(2),
    "box": spaces.Box(-1.0, 1.0, (2,)),
}


class Task(gym.Env[Any, Any]):
    """Any action space; the reward follows the first action; masks that forbid the last choice now and then."""

    def __init__(self, actions: str = "discrete", bad_obs_at: int = -1) -> None:
        self.observation_space = spaces.Box(-5.0, 5.0, (3,))
        self.action_space = ACTION_SPACES[actions]
        self.bad_obs_at = bad_obs_at
        self.clock = 0

    def _observe(self) -> np.ndarray:
        observation = self.np_random.normal(size=3).astype(np.float32)
        if self.clock == self.bad_obs_at:
            observation[1] = math.nan
        return observation

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        self.clock += 1
        return self._observe(), float(np.ravel(action)[0]), self.steps >= 7, False, {}

    def action_masks(self) -> np.ndarray:
        sizes = {"discrete": 3, "multi_discrete": 5, "multi_binary": 4}
        for name, size in sizes.items():
            if self.action_space == ACTION_SPACES[name]:
                mask = np.ones(size, dtype=bool)
                mask[-1] = self.clock % 3 > 0
                return mask
        raise NotImplementedError


def make(actions: str = "discrete", n_envs: int = 2, **kwargs: Any) -> VecEnv:
    return make_vec_env(lambda: Task(actions, **kwargs), n_envs, seed=0)


class Scene(SceneEnv):
    def action_masks(self) -> np.ndarray:
        return np.array([True, True])


def policy_of(algorithm: type, name: str = "StableMlpPolicy") -> Any:
    return algorithm.policy_aliases[name]


def build(algorithm: Any, env: VecEnv | None = None, **options: Any) -> Any:
    return algorithm(policy_of(algorithm), env or make(), **small(algorithm, options))


def small(algorithm: Any, options: dict[str, Any]) -> dict[str, Any]:
    """With an LSTM of 16 units in place of SB3's 256, which take most of the time."""
    if not issubclass(algorithm, RecurrentPPO):
        return {**SMALL, **options}
    return {**SMALL, **options, "policy_kwargs": {"lstm_hidden_size": 16, **options.get("policy_kwargs", {})}}


def supports(algorithm: type, actions: str) -> bool:
    # MaskablePPO has no continuous actions; RecurrentPPO pads MultiBinary ones to integers, which its loss refuses
    return (algorithm, actions) not in {(StableMaskablePPO, "box"), (StableRecurrentPPO, "multi_binary")}


def assert_identical(algorithm: Any, policy: Any, make_env: Any, steps: int = 128, **options: Any) -> None:
    logs, models = [], []
    for each in (PAIRS[algorithm], algorithm):
        log = Logged()
        models.append(each(policy, make_env(), **small(each, options)).learn(steps, callback=log))
        logs.append([{k: v for k, v in u.items() if k.startswith("train/")} for u in log.updates])
    models[0].policy.set_training_mode(False)  # where BatchNorm's statistics move; with guards they have moved before
    assert_same_weights(models[1], models[0])
    assert logs[1] == logs[0]
    assert len(logs[0]) >= 2
    assert models[1]._undone_updates == 0


def is_finite(model: Any) -> bool:
    return all(bool(th.isfinite(tensor).all()) for tensor in model.policy.state_dict().values())
