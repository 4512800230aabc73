"""
The arithmetic of the guards: tensors and numbers in, tensors and numbers out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch as th

from sb3_stable_ppo.guards.config import GuardConfig

KL_BAND = (0.01, 0.04)
"""An accepted update whose KL is below lets the learning-rate scale recover, one above shrinks it."""
GENTLE = 1.3
"""Factor of a gentle change of the scale, as in rsl_rl's KL-adaptive learning rate (1.5 there)."""
DORMANT_SPREAD = 0.001
"""A unit that varies less than this share of its layer's mean counts as dead."""
FEW_UNITS = 8
"""A layer with fewer live units loses no meaningful share of them."""


class GuardedLogProb(NamedTuple):
    """What :func:`guard_log_prob` returns, with the log-ratio as it was and how many rows had to change."""

    log_prob: th.Tensor
    raw_log_ratio: th.Tensor
    clamped: int
    nonfinite: int


def guard_log_prob(log_prob: th.Tensor, old_log_prob: th.Tensor, guards: GuardConfig) -> GuardedLogProb:
    """
    Bound the log-ratio ``log_prob - old_log_prob``; ``log_prob`` itself is returned when nothing is out of bounds.

    Where a row's log-ratio is not finite, it counts as ratio 1 without gradient, and the other ratios of the minibatch
    are held in ``fallback_ratio``. ``old_log_prob`` has to be finite in those rows (:func:`finite_or_zero`).

    :param log_prob: log-probabilities under the new policy, shape (batch,)
    :param old_log_prob: those under the policy that collected the data, shape (batch,)
    :param guards: the bounds
    """
    log_ratio = log_prob.detach() - old_log_prob
    limit = guards.max_log_ratio
    if float(th.linalg.vector_norm(log_ratio, math.inf)) <= limit:  # one look at the largest; False if any is NaN
        return GuardedLogProb(log_prob, log_ratio, 0, 0)
    finite = th.isfinite(log_ratio)
    low, high = -limit, limit
    if not bool(finite.all()):
        low = max(low, math.log(guards.fallback_ratio[0]))
        high = min(high, math.log(guards.fallback_ratio[1]))
    within = finite & (log_ratio >= low) & (log_ratio <= high)
    bounded = old_log_prob + log_ratio.clamp(low, high)
    if guards.straight_through:  # the value is the bounded one, the gradient that of log_prob
        bounded = log_prob + (bounded - log_prob).detach()
    bounded = th.where(finite, bounded, old_log_prob)
    n_nonfinite = int((~finite).sum())
    n_clamped = int((~within).sum()) - n_nonfinite
    return GuardedLogProb(th.where(within, log_prob, bounded), log_ratio, n_clamped, n_nonfinite)


def finite_or_zero(values: th.Tensor) -> tuple[th.Tensor, th.Tensor | None]:
    """
    ``values`` with 0 in place of each non-finite one, and where those were.

    :param values: any tensor
    :return: ``values`` itself and None if all are finite
    """
    finite = th.isfinite(values)
    if bool(finite.all()):
        return values, None
    return th.where(finite, values, 0.0), ~finite


def reward_scale(rewards: np.ndarray, episode_starts: np.ndarray) -> float:
    """
    How large a reward is where all of them are small: the largest of a rollout, at most 1. Of steps that end an episode
    they do not count: SB3 adds the value of the state to them where a time limit did it. Without any reward it is 1.

    >>> reward_scale(np.array([[0.0], [-1e-3], [5.0]]), np.array([[1], [0], [0]]))
    0.001

    :param rewards: shape (steps, envs), in their order
    :param episode_starts: whether a step is the first of an episode, same shape
    """
    largest = float(np.abs(np.where(episode_starts[1:], 0, rewards[:-1])).max(initial=0.0))
    return min(largest, 1.0) if largest > 0 else 1.0


def normalize_advantages(
    advantages: th.Tensor, min_std: float, mask: th.Tensor | None = None
) -> tuple[th.Tensor, th.Tensor]:
    """
    The arithmetic of ``PPO.train`` (with ``mask``: of ``RecurrentPPO.train``), bit for bit, but for advantages that
    hardly differ: these stay as they are, since normalising would only blow up noise. Which of the two it was is told
    by a tensor that nothing here reads, so that a GPU goes on with the minibatch before.

    :param advantages: shape (batch,)
    :param min_std: below this standard deviation nothing is normalised
    :param mask: True where a padded sequence has data
    :return: the advantages, and whether they were left as they are: a bool, shape ()
    """
    chosen = advantages if mask is None else advantages[mask]
    std = chosen.std()
    is_flat = std < min_std
    return th.where(is_flat, advantages, (advantages - chosen.mean()) / (std + 1e-8)), is_flat


def lost_unit_fraction(before: Mapping[str, th.Tensor], after: Mapping[str, th.Tensor]) -> tuple[float, str]:
    """
    The largest share of a layer's live units that an update has put out, and the layer.

    Here a unit is live if its activation varies over the rows, by more than a thousandth of what the layer's units vary
    on average before the update: a saturated tanh is as dead as a ReLU at zero, and a LeakyReLU that has come to lie
    below zero is still live (:func:`newly_inactive_fraction` of what is positive counts that one).

    >>> lost_unit_fraction({"conv1": th.ones(8)}, {"conv1": th.tensor([0.0, 0.0005] + [0.5] * 6)})
    (0.25, 'conv1')

    :param before: by layer, the standard deviation of each unit over the rows, shape (units,)
    :param after: the same after the update
    """
    least = {layer: DORMANT_SPREAD * spread.mean() for layer, spread in before.items()}
    return newly_inactive_fraction(
        {layer: spread > least[layer] for layer, spread in before.items()},
        {layer: after[layer] > least[layer] for layer in before},
    )


def newly_inactive_fraction(before: Mapping[str, th.Tensor], after: Mapping[str, th.Tensor]) -> tuple[float, str]:
    """
    The largest share of a layer's active units that an update has made inactive, and the layer.

    >>> newly_inactive_fraction({"fc1": th.ones(8) > 0}, {"fc1": th.arange(8) > 1})
    (0.25, 'fc1')

    :param before: by layer, whether each unit is active, shape (units,); layers with fewer than eight are passed over
    :param after: the same after the update
    """
    largest = (0.0, "")
    for layer, was in before.items():
        count = int(was.sum())
        if count >= FEW_UNITS:
            fraction = float((was & ~after[layer]).sum()) / count
            if fraction > largest[0]:  # of several, the first: where it goes dark, all behind it does
                largest = (fraction, layer)
    return largest


def next_scale(scale: float, kl: float) -> float:
    """
    The learning-rate scale after an accepted update.

    :param scale: the scale of that update, in (0, 1]
    :param kl: how far it moved the policy
    """
    if kl < KL_BAND[0]:
        return min(scale * GENTLE, 1.0)
    return scale / GENTLE if kl > KL_BAND[1] else scale
