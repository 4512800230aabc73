"""An env that breaks where a masked action is taken; registered when it is imported (``--gym-packages masked_env``)."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class StrictEnv(gym.Env[np.ndarray, int]):
    """Two of six actions are allowed at a time, others at each step; its info tells which."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        self.observation_space = spaces.Box(0.0, 1.0, (6,), np.float32)
        self.action_space = spaces.Discrete(6)
        self.render_mode = render_mode

    def _info(self) -> dict[str, Any]:
        self.mask = np.zeros(6, dtype=np.int8)
        self.mask[self.np_random.choice(6, 2, replace=False)] = 1
        return {"action_mask": self.mask}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(6, dtype=np.float32), self._info()

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if not self.mask[action]:
            raise RuntimeError(f"action {action} is masked")
        self.steps += 1
        return self.np_random.random(6, dtype=np.float32), 1.0, self.steps >= 15, False, self._info()

    def render(self) -> Any:
        return np.full((32, 32, 3), 10 * self.steps, dtype=np.uint8)


class StrictEnvWithMethod(StrictEnv):
    """Its method tells which actions are allowed."""

    def _info(self) -> dict[str, Any]:
        super()._info()
        return {}

    def action_masks(self) -> np.ndarray:
        return self.mask.astype(bool)


gym.register("Strict-v0", StrictEnv)
gym.register("StrictWithMethod-v0", StrictEnvWithMethod)
