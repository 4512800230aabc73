"""Small real environments."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.env_util import make_atari_env, make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack


def make_pong(n_envs: int = 2, seed: int = 0) -> VecEnv:
    """Real ALE Pong, wrapped as rl_zoo3 does it."""
    return VecFrameStack(make_atari_env("PongNoFrameskip-v4", n_envs=n_envs, seed=seed), 4)


def make_cartpole(n_envs: int = 2, seed: int = 0) -> VecEnv:
    return make_vec_env("CartPole-v1", n_envs=n_envs, seed=seed)


class SceneEnv(gym.Env[dict[str, np.ndarray], int]):
    """Dict observations: a picture of noise and a vector."""

    def __init__(self) -> None:
        self.observation_space = spaces.Dict(
            {
                "camera": spaces.Box(0, 255, (3, 40, 40), np.uint8),
                "speed": spaces.Box(-1.0, 1.0, (2,), np.float32),
            }
        )
        self.action_space = spaces.Discrete(2)

    def _observe(self) -> dict[str, np.ndarray]:
        return {
            "camera": self.np_random.integers(0, 256, (3, 40, 40), dtype=np.uint8),
            "speed": self.np_random.uniform(-1, 1, 2).astype(np.float32),
        }

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self._observe(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self._observe(), float(action), self.steps >= 20, False, {}


def actions_of(env: VecEnv, steps: int, seed: int = 0) -> list[np.ndarray]:
    """Random actions for all envs, of each step."""
    env.action_space.seed(seed)
    return [np.array([env.action_space.sample() for _ in range(env.num_envs)]) for _ in range(steps)]


def play(env: VecEnv, steps: int) -> list[tuple[Any, Any, Any, list[dict[str, Any]]]]:
    """Random actions from a reset env."""
    env.reset()
    return [env.step(actions) for actions in actions_of(env, steps)]  # type: ignore[misc]


class NaNReward(gym.RewardWrapper[Any, Any]):
    """Every eighth reward is NaN."""

    given = 0

    def reward(self, reward: Any) -> float:
        self.given += 1
        return float("nan") if self.given % 8 == 0 else float(reward)


def cartpole_with_nan() -> gym.Env[Any, Any]:
    return NaNReward(gym.make("CartPole-v1"))
