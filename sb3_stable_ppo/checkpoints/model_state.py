"""
What SB3's ``save()`` leaves out of a model: LSTM states, gSDE's noise, and flags of ours.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.distributions import StateDependentNoiseDistribution
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from sb3_stable_ppo.common.errors import UsageError

NOISE = ("exploration_mat", "exploration_matrices")
"""What ``StateDependentNoiseDistribution.sample_weights`` has drawn, before ``on_rollout_start``."""


def model_state(model: BaseAlgorithm) -> dict[str, Any]:
    """
    :param model: between two updates
    :return: plain values and tensors
    """
    excluded = [name for name in model._excluded_save_params() if name in vars(model)]
    return {
        "excluded": {name: getattr(model, name) for name in excluded if _is_plain(getattr(model, name))},
        "noise": [
            {name: getattr(found, name).detach() for name in NOISE if hasattr(found, name)}
            for found in _noise_distributions(model)
        ],
        "action_noise": getattr(model, "action_noise", None),
    }


def set_model_state(model: BaseAlgorithm, state: dict[str, Any]) -> None:
    """
    :param model: loaded from the zip of the same checkpoint
    :param state: of :func:`model_state`
    """
    vars(model).update(state["excluded"])


def set_noise(model: BaseAlgorithm, state: dict[str, Any]) -> None:
    """
    The noise that gSDE has drawn for the rollout that now begins.

    :param model: the same
    :param state: of :func:`model_state`
    """
    for found, noise in zip(_noise_distributions(model), state["noise"], strict=True):
        vars(found).update(noise)


def save_replay_buffer(model: BaseAlgorithm, path: Path) -> bool:
    """
    :param model: any
    :param path: of a new file
    :return: whether there was one to save
    """
    if not has_replay_buffer(model):
        return False
    assert isinstance(model, OffPolicyAlgorithm)
    model.save_replay_buffer(path)
    return True


def has_replay_buffer(model: BaseAlgorithm) -> bool:
    """Whether a model learns from one."""
    return isinstance(model, OffPolicyAlgorithm) and isinstance(model.replay_buffer, ReplayBuffer)


def name_of_class(model: BaseAlgorithm) -> str:
    """As :func:`class_of_name` finds it."""
    return f"{type(model).__module__}:{type(model).__qualname__}"


def class_of_name(name: str) -> type[BaseAlgorithm]:
    """
    :param name: of :func:`name_of_class`
    :raises UsageError: if it is not where it was
    """
    module, _, path = name.partition(":")
    try:
        found: Any = sys.modules.get(module) or importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        raise UsageError(
            f"The checkpoint is of the algorithm {path} in {module}, which cannot be imported here: give the class, "
            "algorithm=..."
        ) from None
    algorithm: type[BaseAlgorithm] = found
    return algorithm


def _is_plain(value: Any) -> bool:
    """Numbers, words and tensors, alone or in tuples and sets: RecurrentPPO's LSTM states, and flags of the guards."""
    if isinstance(value, (tuple, set, frozenset)):
        return all(_is_plain(each) for each in value)
    return isinstance(value, (bool, int, float, str, th.Tensor))


def _noise_distributions(model: BaseAlgorithm) -> list[StateDependentNoiseDistribution]:
    found = [getattr(module, "action_dist", None) for module in model.policy.modules()]
    return [each for each in found if isinstance(each, StateDependentNoiseDistribution)]
