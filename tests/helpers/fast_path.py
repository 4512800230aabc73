"""Policies and models on the fast path, on small images of noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_stable_ppo import StableCnnPolicy, StablePPO
from sb3_stable_ppo.fast import compiling

IMAGE = spaces.Box(0, 255, (4, 84, 84), np.uint8)
OPTIONS: dict[str, dict[str, Any]] = {
    "channels_last": {"memory_format": "channels_last"},
    "bf16": {"precision": "bf16"},
    "compile": {"compile": True},
    "all": {"memory_format": "channels_last", "precision": "bf16", "compile": True},
}
TOLERANCE = {"channels_last": 1e-5, "bf16": 2e-2, "compile": 1e-5, "all": 2e-2}
"""Of log-probabilities and values, whose size is about 1."""
needs_a_compiler = pytest.mark.skipif(
    compiling.why_no_compile(th.device("cpu")) is not None, reason="there is no C++ compiler"
)
with_each_option = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=needs_a_compiler if "compile" in OPTIONS[name] else ()) for name in OPTIONS]
)


def policy_with(cls: Any = StableCnnPolicy, **options: Any) -> Any:
    """A policy; the same seed gives the same weights whatever the options."""
    th.manual_seed(0)
    return cls(IMAGE, spaces.Discrete(6), lambda _: 1e-3, norm="batch", **options)


def settled(policy: Any) -> Any:
    """In eval mode, past the first rollout, in which BatchNorm is calibrated layer by layer."""
    policy.set_training_mode(True)
    policy.set_training_mode(False)
    return policy


def images(rows: int, seed: int = 0) -> th.Tensor:
    """Random bytes."""
    return th.from_numpy(np.random.default_rng(seed).integers(0, 256, (rows, *IMAGE.shape), dtype=np.uint8))


class Noise:
    """An env of random images; the reward is whether action 1 was taken."""

    def __new__(cls) -> Any:
        import gymnasium as gym

        class Env(gym.Env[np.ndarray, int]):
            observation_space, action_space = IMAGE, spaces.Discrete(6)

            def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
                super().reset(seed=seed)
                self.t = 0
                return self._image(), {}

            def step(self, action: int) -> Any:
                self.t += 1
                return self._image(), float(action == 1), self.t >= 20, False, {}

            def _image(self) -> np.ndarray:
                return self.np_random.integers(0, 256, IMAGE.shape, dtype=np.uint8)

        return Env()


def model_with(algorithm: Any, policy: str = "StableCnnPolicy", **policy_kwargs: Any) -> Any:
    """A small model on random images."""
    classes = StablePPO.policy_aliases
    return algorithm(
        classes[policy],
        DummyVecEnv([Noise, Noise]),
        n_steps=8,
        batch_size=8,
        n_epochs=2,
        seed=0,
        policy_kwargs=policy_kwargs or None,
    )
