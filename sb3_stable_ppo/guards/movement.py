"""
How far an update has moved a policy, and whether that is too far.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NamedTuple

import torch as th

from sb3_stable_ppo.guards.arithmetic import lost_unit_fraction, newly_inactive_fraction
from sb3_stable_ppo.guards.config import GuardConfig
from sb3_stable_ppo.guards.reading import Reading, row_mask
from sb3_stable_ppo.metrics.kl import approx_kl, mean_kl


class Movement(NamedTuple):
    """
    :param kl: mean KL divergence of the action distributions, of those before from those after
    :param lost: largest fraction of a layer's live units that died
    :param lost_layer: that layer
    :param inactive: largest fraction of a layer's units that became positive on no row
    :param inactive_layer: that layer
    """

    kl: float
    lost: float
    lost_layer: str
    inactive: float
    inactive_layer: str

    def why_too_far(self, guards: GuardConfig) -> str | None:
        """
        :param guards: the bounds
        :return: which bound is passed, in words; None: none is
        """
        if not self.kl <= guards.max_kl:  # not "kl >": a KL of NaN is too large as well
            return f"it moved the policy by a KL of {self.kl:.3g}, more than max_kl {guards.max_kl:g}"
        if self.lost > guards.max_lost_unit_fraction:
            return (
                f"{self.lost:.0%} of the live units of {self.lost_layer} died, more than max_lost_unit_fraction "
                f"{guards.max_lost_unit_fraction:.0%}"
            )
        if self.inactive > guards.max_newly_inactive_fraction:
            return (
                f"{self.inactive:.0%} of the units of {self.inactive_layer} are positive on no row any more, more than "
                f"max_newly_inactive_fraction {guards.max_newly_inactive_fraction:.0%}"
            )
        return None


def movement(before: Reading, after: Reading, samples: Any) -> Movement:
    """
    Compare two readings of the same rows. Layers that were run on other numbers of rows are passed over: their rows may
    be others.

    :param before: the policy before an update
    :param after: the policy after it
    :param samples: the rows that both were read on
    """
    both = {layer for layer, rows in before.layer_rows.items() if after.layer_rows.get(layer) == rows}
    lost = lost_unit_fraction(_of(both, before.spread), _of(both, after.spread))
    inactive = newly_inactive_fraction(_of(both, before.positive), _of(both, after.positive))
    return Movement(kl_between(before, after, samples), *lost, *inactive)


def kl_between(before: Reading, after: Reading, samples: Any) -> float:
    """
    How far a policy has moved: mean KL divergence of the distributions of its actions, in closed form, or where there
    is none, as of a mixture of Gaussians, SB3's estimate from the actions taken.

    :param before: the policy before
    :param after: the policy after
    :param samples: the rows that both were read on
    """
    mask = row_mask(samples)
    if before.distributions:
        with suppress(NotImplementedError):
            return mean_kl(before.distributions, after.distributions, mask)
    log_ratio = after.log_prob - before.log_prob
    return float(approx_kl(log_ratio if mask is None else log_ratio[mask]))


def _of(layers: set[str], by_layer: dict[str, th.Tensor]) -> dict[str, th.Tensor]:
    return {layer: tensor for layer, tensor in by_layer.items() if layer in layers}
