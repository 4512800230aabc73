"""Pong as zoo_configs/stable_ppo_batchnorm.yml has it, for the benchmarks."""

from __future__ import annotations

from typing import Any

import ale_py
import gymnasium as gym
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack

from sb3_stable_ppo import TorchRolloutBuffer

gym.register_envs(ale_py)

SETTINGS: dict[str, Any] = {
    "learning_rate": 1e-4,
    "n_steps": 128,
    "batch_size": 256,
    "n_epochs": 4,
    "clip_range": 0.1,
    "ent_coef": 0.01,
}
TORCHS_WAY: dict[str, Any] = {"norm_statistics": "batch"}
"""BatchNorm as it was when the lines on record were measured: an update is normalised by each minibatch."""
FAST_PATH: dict[str, Any] = {
    "rollout_buffer_class": TorchRolloutBuffer,
    "rollout_buffer_kwargs": {"memory_format": "channels_last"},
    "policy_kwargs": {
        **TORCHS_WAY,
        "memory_format": "channels_last",
        "precision": "auto",
        "optimizer_kwargs": {"fused": True},
    },
}
SMOKE: dict[str, int] = {"steps": 256, "n_envs": 2}
"""The smallest run: one rollout and one update."""


def make_pong(seed: int, n_envs: int = 8, env_id: str = "PongNoFrameskip-v4") -> VecEnv:
    """SB3's own envs and wrappers; of another game too."""
    return VecFrameStack(make_atari_env(env_id, n_envs=n_envs, seed=seed), 4)
