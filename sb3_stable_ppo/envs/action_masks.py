"""
Action masks for envs that tell them in ``info``.
"""

from __future__ import annotations

from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
import numpy.typing as npt


class InfoActionMasks(gym.Wrapper[Any, Any, Any, Any]):
    """
    ``action_masks()``, which MaskablePPO calls, for envs that put their mask into ``info["action_mask"]``, as
    Gymnasium's Taxi does. In YAML: ``env_wrapper: [sb3_stable_ppo.envs.InfoActionMasks]``.

    :param env: with one discrete action
    :raises ValueError: if its actions are of another kind, or its ``info`` has no mask
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        if not isinstance(env.action_space, gym.spaces.Discrete):
            raise ValueError(
                f"InfoActionMasks is for discrete actions, not {env.action_space}: leave it out, and give the env a "
                "method action_masks() of its own."
            )
        self._mask: npt.NDArray[np.bool_] | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        self._take(info)
        return observation, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._take(info)
        return observation, reward, terminated, truncated, info

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """True for each action that is allowed now."""
        if self._mask is None:
            raise ValueError("There is no mask before the first reset().")
        return self._mask

    def _take(self, info: dict[str, Any]) -> None:
        if "action_mask" not in info:
            raise ValueError(
                f"{self.env} has no action_mask in its info; its keys are {', '.join(info) or 'none'}. Let reset() and "
                "step() put it there, or leave InfoActionMasks out and train without masks (PPO, StablePPO)."
            )
        self._mask = np.asarray(info["action_mask"], dtype=bool)
