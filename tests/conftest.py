"""Shared parts: small real environments, models, and the comparison of weights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ale_py
import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_atari_env, make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack

ROOT = Path(__file__).parent.parent
gym.register_envs(ale_py)


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


def assert_same_weights(first: BaseAlgorithm, second: BaseAlgorithm) -> None:
    """Weights, buffers and the state of all optimizers, bit for bit."""
    assert_same(first.get_parameters(), second.get_parameters(), "")


def assert_same(first: Any, second: Any, name: str) -> None:
    """The same tensors and numbers in the same nested dicts."""
    if isinstance(first, dict):
        assert first.keys() == second.keys(), name
        for key in first:
            assert_same(first[key], second[key], f"{name}.{key}")
    elif isinstance(first, (th.Tensor, float)):
        assert th.equal(th.as_tensor(first), th.as_tensor(second)), name


def run_python(code: str, *args: str, cwd: Path | None = None) -> str:
    """Run code in a fresh process; returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        cwd=cwd or ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(autouse=True)
def _two_threads() -> None:
    th.set_num_threads(2)
