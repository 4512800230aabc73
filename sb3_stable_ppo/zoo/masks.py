"""
Masked environments in rl_zoo3, which knows no masks: an env wrapper for those that tell their mask in ``info``, and
evaluation with masks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import rl_zoo3.exp_manager
from rl_zoo3.callbacks import TrialEvalCallback
from rl_zoo3.utils import ALGOS
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.callbacks import MaskableEvalCallback
from sb3_contrib.common.maskable.utils import get_action_masks
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_stable_ppo.common.patching import patched

HOW_TO_MASK = (
    ", or give the env a method action_masks(); where info['action_mask'] has the mask, "
    "env_wrapper: sb3_stable_ppo.envs.InfoActionMasks. Without masks: --algo stable_ppo."
)
"""The cure, after sb3-contrib's error about an env without masks."""


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
            stack.enter_context(patched(rl_zoo3.exp_manager, "EvalCallback", MaskableEvalCallback))
            stack.enter_context(patched(rl_zoo3.exp_manager, "TrialEvalCallback", MaskedTrialEvalCallback))
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
