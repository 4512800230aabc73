"""ShrinkPerturb: weights are shrunk, and mixed with some of a fresh network."""

from __future__ import annotations

from typing import Any, ClassVar

import torch as th

from sb3_stable_ppo.common.checks import number
from sb3_stable_ppo.common.lazy import public
from sb3_stable_ppo.interventions.fresh import fresh_draw
from sb3_stable_ppo.interventions.weight_space import WeightIntervention, tensors
from sb3_stable_ppo.probes.learners import Weight

DRAW_EVERY = 1000
"""Environment steps, at least, from one draw of a fresh network to the next: it takes as long as making a policy."""
SOFT, HARD = (1 - 1e-6, 1e-6), (0.5, 0.5)


@public
class ShrinkPerturb(WeightIntervention):
    """
    ``w <- shrink * w + perturb * fresh``: weights forget a little of what they learnt, and take on some of a network
    that has just been made (https://arxiv.org/abs/1910.08475).

    Soft, behind each step of the optimizer, it is among the best for PPO with LayerNorm
    (https://arxiv.org/abs/2405.19153, with 1e-6); the fresh network is drawn anew for each update, but at most every
    1000 environment steps. Hard, at a trigger, it is a partial reset (0.5 and 0.5, https://arxiv.org/abs/2305.19452).
    The fresh weights come from the policy's own constructor, so they have its init; the random numbers of the run are
    not touched.

    :param shrink: what stays; None: 1 - 1e-6, at a trigger 0.5
    :param perturb: what comes; None: 1e-6, at a trigger 0.5
    :param when: ``always`` or a trigger
    :param last_layer: whether the last layer of each network is changed too
    :param verbose: SB3's verbosity
    :raises ValueError: for a share out of range; when training starts, if the policy cannot be made a second time
    """

    with_biases: ClassVar[bool] = True

    def __init__(
        self,
        shrink: float | None = None,
        perturb: float | None = None,
        when: Any = "always",
        last_layer: bool = True,
        verbose: int = 0,
    ) -> None:
        super().__init__(when, last_layer, verbose)
        shares = SOFT if self.trigger.kind == "always" else HARD
        self.shrink = number(shares[0] if shrink is None else shrink, "shrink", high=1.0)
        self.perturb = number(shares[1] if perturb is None else perturb, "perturb", high=1.0)

    def begin(self) -> None:
        if self.is_new_run:
            self.memory.pop("drawn_at", None)
        self.memory.setdefault("drawn_at", self.num_timesteps)
        self._draw(self.memory.setdefault("draws", 0))

    def after_update(self) -> None:
        if self.trigger.kind == "always" and self.num_timesteps - self.memory["drawn_at"] >= DRAW_EVERY:
            self.memory["drawn_at"] = self.num_timesteps
            self._next_draw()

    def act(self) -> None:
        self._next_draw()
        super().act()

    def move(self, weights: list[Weight]) -> None:
        if (self.shrink, self.perturb) != (1.0, 0.0):
            th._foreach_mul_(tensors(weights), self.shrink)
            th._foreach_add_(tensors(weights), [self._fresh[weight.name] for weight in weights], alpha=self.perturb)

    def _next_draw(self) -> None:
        self.memory["draws"] += 1
        self._draw(self.memory["draws"])

    def _draw(self, number_of_draw: int) -> None:
        self._fresh = fresh_draw(self.model, number_of_draw)
