"""WeightClip: weights are held within bounds of their layer."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch as th

from sb3_stable_ppo.common.checks import number
from sb3_stable_ppo.common.lazy import public
from sb3_stable_ppo.interventions.weight_space import WeightIntervention, tensors
from sb3_stable_ppo.probes.learners import Weight


@public
class WeightClip(WeightIntervention):
    """
    Holds each weight and bias within ``kappa / sqrt(fan_in)`` of its layer, behind each step of the optimizer:
    ``w <- clamp(w, -kappa / sqrt(fan_in), kappa / sqrt(fan_in))`` (https://arxiv.org/abs/2407.01704).

    SB3's orthogonal init with gain sqrt(2) has weights beyond ``kappa=1``: they are cut by the first step. The log has
    the share of weights that stand at the bound.

    :param kappa: the bound, in units of torch's own uniform init; the paper has 3 for PPO on MuJoCo
    :param when: ``always``; or as a trigger
    :param last_layer: whether the last layer of each network is clipped too, as in the paper
    :param verbose: SB3's verbosity
    :raises ValueError: for a kappa of 0 or below
    """

    with_biases: ClassVar[bool] = True

    def __init__(self, kappa: float = 3.0, when: Any = "always", last_layer: bool = True, verbose: int = 0) -> None:
        super().__init__(when, last_layer, verbose)
        self.kappa = number(kappa, "kappa", low=1e-6)

    def bound(self, weight: Weight) -> float:
        """The largest absolute value of a weight."""
        return self.kappa / math.sqrt(weight.fan_in)

    def move(self, weights: list[Weight]) -> None:
        bounds = [self.bound(weight) for weight in weights]
        th._foreach_clamp_max_(tensors(weights), bounds)
        th._foreach_clamp_min_(tensors(weights), [-bound for bound in bounds])

    def figures(self) -> dict[str, float]:
        weights = self.everything()
        clipped = sum(int((weight.parameter.abs() >= 0.999999 * self.bound(weight)).sum()) for weight in weights)
        return {"clip_fraction": clipped / sum(weight.parameter.numel() for weight in weights)}
