"""Policies and models whose activation is ``crelu``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces

from helpers.envs import SceneEnv, make_cartpole
from sb3_stable_ppo import StableCnnPolicy, StableMlpPolicy, StableMultiInputPolicy, StablePongPolicy, StablePPO

VECTOR = spaces.Box(-1.0, 1.0, (4,))
FRAMES = spaces.Box(0, 255, (4, 40, 40), np.uint8)
SCENE = SceneEnv().observation_space
SPACES = {
    StablePongPolicy: FRAMES,
    StableCnnPolicy: FRAMES,
    StableMlpPolicy: VECTOR,
    StableMultiInputPolicy: SCENE,
}
SMALL: dict[str, Any] = {"n_steps": 16, "batch_size": 8, "n_epochs": 1, "seed": 0}


def build(policy: Any, space: spaces.Space[Any] | None = None, **kwargs: Any) -> Any:
    th.manual_seed(0)
    space = SPACES[policy] if space is None else space
    return policy(space, spaces.Discrete(6), lambda _: 1e-4, **{"activation": "crelu", **kwargs})


def rows_of(policy: Any, count: int = 6) -> Any:
    space = policy.observation_space
    space.seed(3)
    samples = [space.sample() for _ in range(count)]
    if isinstance(space, spaces.Dict):
        return policy.obs_to_tensor({key: np.stack([sample[key] for sample in samples]) for key in space.spaces})[0]
    return policy.obs_to_tensor(np.stack(samples))[0]


def model_of(cls: Any = StablePPO, policy: str = "StableMlpPolicy", env: Any = None, **kwargs: Any) -> Any:
    options = {"activation": "crelu", **kwargs.pop("policy_kwargs", {})}
    return cls(policy, env or make_cartpole(), policy_kwargs=options, **{**SMALL, **kwargs})
