"""
Masked environments in rl_zoo3, which knows no masks: an env wrapper for those that tell their mask in ``info``, and
evaluation with masks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import rl_zoo3.exp_manager
from rl_zoo3.callbacks import TrialEvalCallback
from rl_zoo3.utils import ALGOS
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.callbacks import MaskableEvalCallback
from sb3_contrib.common.maskable.utils import get_action_masks
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_stable_ppo.patching import replaced


class InfoActionMasks(gym.Wrapper[Any, Any, Any, Any]):
    """
    ``action_masks()``, which MaskablePPO calls, for envs that put their mask into ``info["action_mask"]``, as
    Gymnasium's Taxi does. In YAML: ``env_wrapper: [sb3_stable_ppo.zoo_masks.InfoActionMasks]``.

    :param env: with one discrete action
    :raises ValueError: if its actions are of another kind, or its ``info`` has no mask
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        if not isinstance(env.action_space, gym.spaces.Discrete):
            raise ValueError(f"InfoActionMasks is for discrete actions, not {env.action_space}.")
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
            raise ValueError(f"{self.env} has no action_mask in its info; its keys are {', '.join(info) or 'none'}.")
        self._mask = np.asarray(info["action_mask"], dtype=bool)


class MaskedTrialEvalCallback(TrialEvalCallback, MaskableEvalCallback):
    """rl_zoo3's evaluation of a trial, with masks."""


@contextmanager
def masked_evaluation(algo: str) -> Iterator[None]:
    """
    Within, rl_zoo3 evaluates algorithms that take masks with masks.

    :param algo: its name in ``ALGOS``
    """
    with ExitStack() as stack:
        if issubclass(ALGOS[algo], MaskablePPO):
            stack.enter_context(replaced(rl_zoo3.exp_manager, "EvalCallback", MaskableEvalCallback))
            stack.enter_context(replaced(rl_zoo3.exp_manager, "TrialEvalCallback", MaskedTrialEvalCallback))
        yield


class MaskedPlayer:
    """
    Stands in for an algorithm's class in rl_zoo3's ``enjoy``, which loads a model and calls its ``predict`` without
    masks.

    :param cls: the algorithm
    :param envs: the last of them is the one that is played
    """

    def __init__(self, cls: type[MaskablePPO], envs: list[Any]) -> None:
        self._cls, self._envs = cls, envs

    @classmethod
    def of(cls, algorithm: type[BaseAlgorithm], envs: list[Any]) -> Any:
        """
        :param algorithm: any
        :param envs: see the class
        :return: the algorithm itself, if it takes no masks
        """
        return cls(algorithm, envs) if issubclass(algorithm, MaskablePPO) else algorithm

    def load(self, *args: Any, **kwargs: Any) -> BaseAlgorithm:
        """As the algorithm's; the model predicts with the masks of the env."""
        model: Any = self._cls.load(*args, **kwargs)
        predict = model.predict
        model.predict = lambda *args, **kwargs: predict(*args, **kwargs, action_masks=get_action_masks(self._envs[-1]))
        return model  # type: ignore[no-any-return]
