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
        if not isinstance(last_layer, bool):
            raise ValueError(f"last_layer must be true or false, not {last_layer!r}.")
        self.last_layer = last_layer

    def chosen(self, learner: Learner) -> list[Weight]:
        """The weights of a learner that this intervention moves."""
        return [
            weight
            for weight in learner.weights
            if (self.last_layer or not weight.is_output) and (self.with_biases or not weight.is_bias)
        ]

    def check(self) -> None:
        self._chosen = {learner.name: self.chosen(learner) for learner in self.learners}
        if not self.everything():
            raise ValueError(
                f"{type(self).__name__} has no layer to move: all that {type(self.model.policy).__name__} has is left "
                "alone with last_layer=False. Give the network hidden layers (net_arch), or set last_layer=True."
            )

    def after_step(self, learner: Learner) -> None:
        weights = self._chosen[learner.name]
        moved = [weight for weight in weights if weight.parameter.grad is not None]
        if moved:
            self.move(moved)

    def act(self) -> None:
        for weights in self._chosen.values():
            if weights:
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
