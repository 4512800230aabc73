"""
Base of the interventions that move weights behind each step of the optimizer.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch as th

from sb3_stable_ppo.interventions.base import Intervention
from sb3_stable_ppo.probes.learners import Learner, Weight


class WeightIntervention(Intervention):
    """
    Moves the weights of linear, convolutional and recurrent layers. Gains of norms and ``log_std`` are left alone.

    :param when: see :class:`Intervention`
    :param last_layer: whether the last layer of each network is moved too
    :param verbose: SB3's verbosity
    """

    with_biases: ClassVar[bool]

    def __init__(self, when: Any = "always", last_layer: bool = True, verbose: int = 0) -> None:
        super().__init__(when, verbose)
        self.last_layer = last_layer

    def chosen(self, learner: Learner) -> list[Weight]:
        """The weights of a learner that this intervention moves."""
        return [
            weight
            for weight in learner.weights
            if (self.last_layer or not weight.is_output) and (self.with_biases or not weight.is_bias)
        ]

    def begin(self) -> None:
        self._chosen = {learner.name: self.chosen(learner) for learner in self.learners}

    def after_step(self, learner: Learner) -> None:
        weights = self._chosen[learner.name]
        moved = [weight for weight in weights if weight.parameter.grad is not None]
        if moved:
            self.move(moved)

    def act(self) -> None:
        for weights in self._chosen.values():
            self.move(weights)

    def move(self, weights: list[Weight]) -> None:
        """
        Move weights in place, without gradients.

        :param weights: some of the chosen
        """
        raise NotImplementedError

    def everything(self) -> list[Weight]:
        """The chosen weights of all learners."""
        return [weight for weights in self._chosen.values() for weight in weights]


def tensors(weights: list[Weight]) -> list[th.Tensor]:
    """The parameters themselves, for torch's ``_foreach`` functions."""
    return [weight.parameter for weight in weights]
