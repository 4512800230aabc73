"""
The critic's output in units of the returns it has to meet: PopArt (https://arxiv.org/abs/1602.07714).

Where returns are far from 1, as Pendulum's -1000, the value loss drowns all else, and the critic spends its first
updates on growing its weights. Here the last layer learns ``(return - mean) / std``, while all that it hands on stays
in units of the return: values, advantages, explained variance, ``clip_range_vf``, and the value loss as it is logged.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch as th
from torch import nn
from typing_extensions import Self  # torch depends on it; typing has it from 3.11 on

from sb3_stable_ppo.fast.numpy_forms import NumpyLayer, Pullback, Rows, shared
from sb3_stable_ppo.fast.numpy_layers import Linear
from sb3_stable_ppo.policies.running_norm import pool_moments

VALUE_NORMS = ("none", "running")
MOMENTUM = 0.05
"""Least share of the newest rollout in mean and variance: returns grow as the agent learns."""
MIN_STD = 1e-4
"""As PopArt's lower bound: where all returns are the same, gradients stay finite."""


class NormalizedValue(nn.Linear):
    """
    The critic's last layer: ``return_mean + return_std * (weight x + bias)``.

    Its gradient is the one that the loss of the normalised return would have, although SB3 computes the loss of the
    return: that is ``return_std ** 2`` times as large, and its gradient is divided by as much.
    """

    return_mean: th.Tensor
    return_var: th.Tensor
    rollouts: th.Tensor
    is_told: bool = False
    """Whether anybody has told it returns, in this process."""
    is_warned: bool = False

    @classmethod
    def of(cls, linear: nn.Linear) -> Self:
        """
        :param linear: the layer to replace, whose parameters are kept: the optimizer holds them
        """
        layer = cls(linear.in_features, linear.out_features, device=linear.weight.device)
        layer.weight, layer.bias = linear.weight, linear.bias
        layer.register_buffer("return_mean", th.zeros((), device=linear.weight.device))
        layer.register_buffer("return_var", th.ones((), device=linear.weight.device))
        layer.register_buffer("rollouts", th.zeros((), dtype=th.long, device=linear.weight.device))
        return layer

    @property
    def return_std(self) -> th.Tensor:
        """Of the returns, and never below ``MIN_STD``."""
        return self.return_var.sqrt().clamp(min=MIN_STD)

    def forward(self, inputs: th.Tensor) -> th.Tensor:
        std = self.return_std
        value: th.Tensor = self.return_mean + std * super().forward(inputs)
        if value.requires_grad:
            value.register_hook(lambda gradient: gradient / std**2)  # type: ignore[no-untyped-call]
        return value

    def numpy_layer(self) -> NumpyLayer:
        """What it is in NumPy."""
        return _NumpyValue(self)

    @th.no_grad()
    def move(self, returns: np.ndarray[Any, Any] | th.Tensor) -> None:
        """
        Take a rollout's returns into mean and variance. The values stay the same: weight and bias make up for it.

        :param returns: in any shape; where one is not finite, nothing is taken
        """
        self.is_told = True
        new = th.as_tensor(returns, dtype=th.float32, device=self.return_mean.device)
        if not bool(th.isfinite(new).all()):
            return
        mean, std = self.return_mean.clone(), self.return_std
        self.rollouts.add_(1)
        weight = (1.0 / self.rollouts).clamp(min=MOMENTUM)
        pool_moments(self.return_mean, self.return_var, new.mean(), new.var(correction=0), weight)
        self.weight.mul_(std / self.return_std)
        self.bias.mul_(std).add_(mean - self.return_mean).div_(self.return_std)


class _NumpyValue:
    def __init__(self, layer: NormalizedValue) -> None:
        self.linear = Linear(layer)
        self.mean, self.var = shared(layer.return_mean), shared(layer.return_var)

    @property
    def std(self) -> Rows:
        return np.maximum(np.sqrt(self.var), np.float32(MIN_STD))

    def __call__(self, rows: Rows) -> Rows:
        return self.mean + self.std * self.linear(rows)

    def learn(self, rows: Rows) -> tuple[Rows, Pullback]:
        found, back = self.linear.learn(rows)
        std = self.std
        return self.mean + std * found, lambda gradient: back(gradient / std)  # times std, divided by its square


def move_value_norm(model: Any) -> bool:
    """
    Take a rollout's returns into the policy's critic, if it normalises them: to be called between rollout and update.

    :param model: an on-policy algorithm of SB3 or sb3-contrib, any policy
    :return: whether there was something to do
    """
    layer = getattr(model.policy, "value_net", None)
    if not isinstance(layer, NormalizedValue):
        return False
    layer.move(model.rollout_buffer.returns)
    model.logger.record("norm/return_mean", float(layer.return_mean))
    model.logger.record("norm/return_std", float(layer.return_std))
    return True
