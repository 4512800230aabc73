"""ReGraMa: units that have stopped learning are reset."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Any

import torch as th

from sb3_stable_ppo.common.checks import number, whole_number
from sb3_stable_ppo.common.lazy import public
from sb3_stable_ppo.interventions.unit_graph import UnitLayer
from sb3_stable_ppo.interventions.unit_space import WHOLE, ScoredReset, shares


@public
class ReGraMa(ScoredReset):
    """
    Resets the units whose incoming weights get far smaller gradients than those of the others of their layer:
    ``G_i <= threshold`` with ``G_i = mean|grad W_i| / (mean_k mean|grad W_k| + least_gradient)``
    (https://arxiv.org/abs/2505.24061, without the last term). It sees units that have stopped learning whatever their
    activation function is, and spares those that look dormant and learn. The clipping of gradients, a common factor,
    makes no difference.

    The gradients are those of the latest minibatches; one alone, as off-policy algorithms have in an update, says
    little of a unit that is active in few states. A layer that no gradient reaches at all is left alone if none reaches
    the layers behind it either: then there was nothing to learn, as where all advantages are 0, or a dead layer behind
    it keeps the gradient back. If that one has been reset as a whole and still lets nothing through, this layer gives
    it nothing, and is reset next. So a network that is dead from its first layer on lives again after as many resets
    as it has dead layers.

    Incoming weights are drawn as the policy's constructor draws them, outgoing ones are set to 0. Target networks
    follow: DQN's at its next copy, those of SAC and TD3 at ``tau``.

    >>> model.learn(100_000, callback=ReGraMa(when={"on_alarm": "dormant_layer"}))  # doctest: +SKIP

    :param threshold: a unit with less than this share of its layer's mean gradient is reset
    :param when: ``{"every_updates": N}`` or ``{"on_alarm": name}``; None: every 1000 updates off-policy, as in the
        paper, else every 10
    :param minibatches: the latest so many are averaged
    :param verbose: SB3's verbosity
    :param least_gradient: a layer with far smaller gradients has stopped learning as a whole, and is reset as a whole:
        so is the network of a policy that always takes the same action. (Adam divides by the size of gradients, so that
        small ones alone are no fault.) 0: a layer is never judged but by the shares of its units
    :raises ValueError: for a number out of range; when training starts, if there is no layer whose units can be reset
    """

    def __init__(
        self,
        threshold: float = 0.01,
        when: Any = None,
        minibatches: int = 64,
        verbose: int = 0,
        least_gradient: float = 1e-12,
    ) -> None:
        self.threshold = number(threshold, "threshold")
        self.least_gradient = number(least_gradient, "least_gradient")
        self.minibatches = whole_number(minibatches, "minibatches", 1)
        super().__init__(self.threshold, when, verbose)

    def begin(self) -> None:
        super().begin()
        if not self.goes_on:
            self._gradients: dict[str, deque[th.Tensor]] = {
                layer.path: deque(maxlen=self.minibatches) for layer in self.graph.layers
            }

    def before_update(self) -> None:
        """Listen, if the update is one of those whose gradients will be wanted."""
        self.listen([])
        if self.trigger.kind == "every_updates" and "is_due" not in self.memory:
            updates_to_go = self.trigger.number - self.memory.get("updates", 0) % self.trigger.number
            if updates_to_go > self.minibatches:
                return
        handles = []
        for learner in self.learners:
            own = {weight.module for weight in learner.weights}
            layers = [layer for layer in self.graph.layers if layer.module in own]
            handles.append(learner.optimizer.register_step_post_hook(partial(self._record, layers)))
        self.listen(handles)

    def _record(self, layers: list[UnitLayer], *_: Any) -> None:
        for layer in layers if not self.run.is_over() else []:
            gradient = layer.module.weight.grad
            if gradient is not None:  # guards have skipped the step
                self._gradients[layer.path].append(gradient.abs().flatten(1).mean(dim=1))

    def can_judge(self) -> bool:
        return any(self._gradients.values())

    def scores(self) -> list[tuple[UnitLayer, th.Tensor]]:
        found = []
        for layer in self.graph.layers:
            recorded = self._gradients[layer.path]
            finite = [gradient for gradient in recorded if bool(th.isfinite(gradient).all())]
            recorded.clear()
            if finite and (bool((means := th.stack(finite).mean(dim=0)).any()) or self._is_dead(layer)):
                found.append((layer, shares(means, self.least_gradient)))
        return found

    def _is_dead(self, layer: UnitLayer) -> bool:
        """Whether a layer without a gradient has to do with that itself."""
        if _is_next_reached(layer):
            return True
        renewed = self.memory.get(WHOLE, ())
        return any(behind.path in renewed and self._is_reached(behind) for behind in self._behind(layer))

    def _is_reached(self, layer: UnitLayer) -> bool:
        """Whether a gradient came as far as any layer behind."""
        return _is_next_reached(layer) or any(self._is_reached(behind) for behind in self._behind(layer))

    def _behind(self, layer: UnitLayer) -> list[UnitLayer]:
        """The hidden layers that read its units."""
        readers = {id(reader.module) for reader in layer.readers}
        return [each for each in self.graph.layers if id(each.module) in readers]


def _is_next_reached(layer: UnitLayer) -> bool:
    """Whether a gradient came as far as the layers that read its units, in the last minibatch."""
    biases = [reader.module.bias for reader in layer.readers]
    return any(isinstance(bias, th.Tensor) and bias.grad is not None and bool(bias.grad.any()) for bias in biases)
