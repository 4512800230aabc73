"""
Which optimizer trains which weights, in any algorithm of SB3 and sb3-contrib.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch as th
from torch import nn

OUTPUTS = re.compile(
    r"(action_net|value_net|q_net\.q_net|quantile_net\.quantile_net|actor\.mu|actor\.log_std|critic\.qf\d+)(\.\d+)?"
)
"""Where the networks of SB3 and sb3-contrib end: a linear layer, or a sequence of which it is the last."""


@dataclass(frozen=True)
class Weight:
    """
    A weight or a bias of a linear, convolutional or recurrent layer. Gains of norms, ``log_std`` and other parameters
    that belong to no such layer are none.

    :param name: as in ``policy.named_parameters()``
    :param parameter: itself
    :param module: the layer that it belongs to
    :param is_bias: whether it is one
    :param is_output: whether the layer is the last of its network
    """

    name: str
    parameter: nn.Parameter
    module: nn.Module
    is_bias: bool
    is_output: bool

    @property
    def fan_in(self) -> int:
        """How many inputs a unit of the layer has."""
        weight: Any = self.parameter if not self.is_bias else next(self.module.parameters())
        return int(weight[0].numel())


@dataclass(frozen=True)
class Learner:
    """
    An optimizer, and the weights that it trains.

    :param name: ``policy``, or ``actor`` and ``critic``
    :param optimizer: a step of which is a step of the training
    :param weights: those of its layers
    """

    name: str
    optimizer: th.optim.Optimizer
    weights: tuple[Weight, ...]


def learners_of(model: Any) -> list[Learner]:
    """
    The optimizers of a model but for SAC's entropy coefficient.

    PPO, A2C, DQN and their kind have ``policy.optimizer``; SAC, TD3, TQC and CrossQ have one for the actor and one for
    the critic. Target networks are no optimizer's.

    :param model: of SB3 or sb3-contrib, set up
    :return: empty for an algorithm without an optimizer, such as ARS
    """
    policy = model.policy
    optimizers = {
        name: getattr(part, "optimizer", None)
        for name, part in (
            ("policy", policy),
            ("actor", getattr(policy, "actor", None)),
            ("critic", getattr(policy, "critic", None)),
        )
    }
    weights = list(weights_of(policy))
    found = []
    for name, optimizer in optimizers.items():
        if optimizer is not None:
            trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
            own = tuple(weight for weight in weights if id(weight.parameter) in trained)
            found.append(Learner(name, optimizer, own))
    return found


def weights_of(policy: nn.Module) -> Iterator[Weight]:
    """
    The weights and biases of all layers, in the order of ``named_parameters()``; those that are frozen are left out.

    :param policy: any policy
    """
    paths = {path: module for path, module in policy.named_modules() if _is_layer(module)}
    outputs: dict[str, str] = {}  # of each network its last linear layer
    for path, module in paths.items():
        match = OUTPUTS.fullmatch(path)
        if match and isinstance(module, nn.Linear):
            outputs[match[1]] = path
    for path, module in paths.items():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                yield Weight(f"{path}.{name}", parameter, module, "bias" in name, path in outputs.values())


def _is_layer(module: nn.Module) -> bool:
    return isinstance(module, (nn.Linear, nn.modules.conv._ConvNd, nn.RNNBase))
