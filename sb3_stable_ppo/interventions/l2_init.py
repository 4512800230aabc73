"""L2Init: weights are drawn back to where they began."""

from __future__ import annotations

from typing import Any, ClassVar

import torch as th

from sb3_stable_ppo.common.checks import number, one_of
from sb3_stable_ppo.common.lazy import public
from sb3_stable_ppo.common.tensors import copied
from sb3_stable_ppo.interventions.memory import initial_weights
from sb3_stable_ppo.interventions.weight_space import WeightIntervention, tensors
from sb3_stable_ppo.metrics.weights import distance
from sb3_stable_ppo.probes.learners import Weight


@public
class L2Init(WeightIntervention):
    """
    Draws all weights and biases a little back to their initial values, behind each step of the optimizer:
    ``w <- w - strength * (w - w_0)``.

    "Regenerative regularization" (https://arxiv.org/abs/2308.11958) adds ``lambda * |w - w_0|**2`` to the loss, with
    lambda 0.01. Adam would rescale that gradient, so here the pull is decoupled from it, as weight decay is in AdamW: a
    step draws by the share ``strength``, whatever the gradients are. A weight that Adam moves by the learning rate
    ``lr`` at each step can go at most about ``lr / strength`` away.

    >>> model.learn(100_000, callback=L2Init(strength=1e-4))  # doctest: +SKIP

    The initial weights are kept with the model, as ``model.initial_weights``.

    :param strength: share of the way back, of each time; from 0 to 1
    :param when: ``always``; or as a trigger, for a stronger pull now and then
    :param last_layer: whether the last layer of each network is drawn back too
    :param initial: ``saved``: those before the first update; ``now``: those when this callback's run starts
    :param verbose: SB3's verbosity
    :raises ValueError: for a strength out of range; when training starts, if a trained model has no initial weights
    """

    with_biases: ClassVar[bool] = True

    def __init__(
        self,
        strength: float = 1e-4,
        when: Any = "always",
        last_layer: bool = True,
        initial: str = "saved",
        verbose: int = 0,
    ) -> None:
        super().__init__(when, last_layer, verbose)
        self.strength = number(strength, "strength", high=1.0)
        self.initial = one_of(initial, ("saved", "now"), "initial")

    def begin(self) -> None:
        if self.initial == "now":
            if self.is_new_run:
                self.memory.pop("initial", None)
            saved = self.memory.setdefault("initial", {})
            missing = [weight for weight in self.everything() if weight.name not in saved]  # of last_layer, from now on
            saved.update({weight.name: copied(weight.parameter).cpu() for weight in missing})
        else:
            saved = initial_weights(self.model, type(self).__name__)
        self._initial = {weight.name: saved[weight.name].to(weight.parameter.device) for weight in self.everything()}

    def move(self, weights: list[Weight]) -> None:
        if self.strength:
            th._foreach_lerp_(tensors(weights), [self._initial[weight.name] for weight in weights], self.strength)

    def figures(self) -> dict[str, float]:
        return {"distance": distance({w.name: w.parameter for w in self.everything()}, self._initial)}
