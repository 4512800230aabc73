"""WeightProjection: the norm of each layer's weights is held at its initial value."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import torch as th

from sb3_stable_ppo.common.checks import one_of
from sb3_stable_ppo.common.lazy import public
from sb3_stable_ppo.interventions.memory import initial_weights
from sb3_stable_ppo.interventions.unit_graph import is_norm
from sb3_stable_ppo.interventions.weight_space import WeightIntervention, tensors
from sb3_stable_ppo.probes.learners import Weight


@public
class WeightProjection(WeightIntervention):
    """
    Holds the Frobenius norm of each layer's weights at its initial value, behind each step of the optimizer:
    ``W <- W * |W_0| / |W|`` ("Normalize-and-Project", https://arxiv.org/abs/2407.01800).

    Weights that grow make a constant learning rate smaller in effect, and in the end nothing is learnt. The norm behind
    a layer makes what the layer computes independent of the size of its weights, so projecting them changes nothing but
    that. Where there is no norm it changes what the network computes, which a warning says. As the effective learning
    rate no longer falls by itself, give the run a schedule. Biases are left alone.

    :param when: ``always``, or as a trigger: the paper's own code projects each step, others once a rollout
    :param last_layer: whether the last layer of each network is held too; SB3 begins actors with weights of nearly 0
        there, which have to grow
    :param initial: ``saved``: norms before the first update; ``now``: those when this callback's run starts
    :param verbose: SB3's verbosity
    :raises ValueError: when training starts, if a trained model has no initial norms
    """

    with_biases: ClassVar[bool] = False

    def __init__(
        self, when: Any = "always", last_layer: bool = False, initial: str = "saved", verbose: int = 0
    ) -> None:
        super().__init__(when, last_layer, verbose)
        self.initial = one_of(initial, ("saved", "now"), "initial")

    @property
    def _key(self) -> str:
        """In its memory: each ``initial`` has norms of its own."""
        return "norms" if self.initial == "saved" else "norms_now"

    def begin(self) -> None:
        if not any(is_norm(module) for module in self.model.policy.modules()):
            warnings.warn(
                f"WeightProjection is made for networks with a norm behind each layer, and "
                f"{type(self.model.policy).__name__} here has none: it changes what the network computes.",
                stacklevel=2,
            )
        if self.initial == "now" and self.is_new_run:
            self.memory.pop(self._key, None)
        norms = self.memory.setdefault(self._key, {})
        missing = [weight for weight in self.everything() if weight.name not in norms]  # of last_layer, from now on
        if missing:
            weights = {weight.name: weight.parameter.detach() for weight in missing}
            if self.initial == "saved":
                weights = initial_weights(self.model, type(self).__name__, keep=False) or weights
            norms.update({weight.name: float(th.linalg.vector_norm(weights[weight.name])) for weight in missing})

    def move(self, weights: list[Weight]) -> None:
        initial, norms = self.memory[self._key], th._foreach_norm(tensors(weights))
        scales = [initial[weight.name] / norm.clamp(min=1e-12) for weight, norm in zip(weights, norms, strict=True)]
        th._foreach_mul_(tensors(weights), scales)

    def figures(self) -> dict[str, float]:
        initial = self.memory[self._key]
        shares = [
            float(th.linalg.vector_norm(weight.parameter.detach())) / max(initial[weight.name], 1e-12)
            for weight in self.everything()
        ]
        return {"largest_norm_share": max(shares, default=1.0)}
