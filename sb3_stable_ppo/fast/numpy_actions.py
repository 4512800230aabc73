"""
Actions of SB3's and sb3-contrib's distributions in NumPy, drawn from the same random numbers of torch: the same seed
gives the same actions, but for rounding at a tie.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch as th
from sb3_contrib.common.maskable.distributions import (
    MaskableCategoricalDistribution,
    MaskableMultiCategoricalDistribution,
)
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    MultiCategoricalDistribution,
)

from sb3_stable_ppo.fast.numpy_layers import NoNumpyForm, Rows, shared

Actions = npt.NDArray[Any]
MASKED = np.float32(-1e8)
"""The logit of an action that is masked, as sb3-contrib has it."""
LOG_SQRT_2_PI = np.float32(math.log(math.sqrt(2 * math.pi)))


class NotFinite(Exception):
    """The network put out what no distribution can be made of. torch's say so in their own words."""


class NumpyActions(Protocol):
    """Draws from a distribution."""

    def __call__(
        self, outputs: Rows, deterministic: bool = False, masks: Any = None, wants_log_prob: bool = True
    ) -> tuple[Actions, Rows | None]:
        """
        :param outputs: of the actor's last layer, shape (batch, outputs)
        :param deterministic: the mode instead of a sample
        :param masks: of valid actions, where the distribution takes them
        :param wants_log_prob: whether it is asked for
        :return: actions, and the logarithms of their probabilities, shape (batch,)
        :raises NotFinite: before any random number is drawn
        """
        ...


def numpy_actions(distribution: Any, log_std: th.Tensor | None) -> NumpyActions:
    """
    :param distribution: the policy's ``action_dist``
    :param log_std: of a Gaussian
    :return: its NumPy form
    :raises NoNumpyForm: where there is none
    """
    kind = type(distribution)
    if kind in (CategoricalDistribution, MaskableCategoricalDistribution):
        return Categoricals((int(distribution.action_dim),), squeeze=True)
    if kind is MultiCategoricalDistribution or isinstance(distribution, MaskableMultiCategoricalDistribution):
        return Categoricals(tuple(int(size) for size in distribution.action_dims), squeeze=False)
    if kind is BernoulliDistribution:
        return bernoulli
    if kind is DiagGaussianDistribution and log_std is not None:
        return Gaussian(shared(log_std))
    raise NoNumpyForm(f"{kind.__name__} has no NumPy form")


class Categoricals:
    """
    One or several categorical distributions.

    :param sizes: how many actions each has
    :param squeeze: actions of shape (batch,) instead of (batch, 1)
    """

    def __init__(self, sizes: tuple[int, ...], squeeze: bool) -> None:
        self.sizes, self.squeeze = sizes, squeeze
        self._starts = np.cumsum(sizes)[:-1]

    def __call__(
        self, outputs: Rows, deterministic: bool = False, masks: Any = None, wants_log_prob: bool = True
    ) -> tuple[Actions, Rows | None]:
        _check(outputs)
        if masks is not None:
            outputs = np.where(np.asarray(masks, dtype=bool).reshape(outputs.shape), outputs, MASKED)
        rows, chosen = np.arange(len(outputs)), []
        log_prob: Rows | None = None
        for logits in [outputs] if len(self.sizes) == 1 else np.split(outputs, self._starts, axis=1):
            shifted = logits - logits.max(1, keepdims=True)
            odds = np.exp(shifted)
            actions = odds.argmax(1) if deterministic else _drawn(odds)
            chosen.append(actions)
            if wants_log_prob:
                found: Rows = shifted[rows, actions] - np.log(odds.sum(1))
                log_prob = found if log_prob is None else log_prob + found
        return chosen[0] if self.squeeze else np.stack(chosen, 1), log_prob


def _check(outputs: Rows) -> None:
    """Numbers that are not finite make the sum so; one that overflows is no harm, as torch can do it too."""
    if not math.isfinite(outputs.sum()):
        raise NotFinite


def _drawn(odds: Rows) -> Actions:
    """As ``torch.multinomial`` draws one: the largest of odds divided by exponential random numbers."""
    noise = th.empty(odds.shape).exponential_(1).numpy()
    chosen: Actions = (odds / noise).argmax(1)
    return chosen


def bernoulli(
    outputs: Rows,
    deterministic: bool = False,
    masks: Any = None,  # noqa: ARG001  # it has none
    wants_log_prob: bool = True,
) -> tuple[Actions, Rows | None]:
    """:class:`NumpyActions` of independent Bernoulli distributions."""
    _check(outputs)
    with np.errstate(over="ignore"):
        share = 1 / (1 + np.exp(-outputs))
    actions = np.rint(share) if deterministic else th.bernoulli(th.from_numpy(share)).numpy()
    if not wants_log_prob:
        return actions, None
    loss = np.maximum(outputs, 0) - outputs * actions + np.log1p(np.exp(-np.abs(outputs)))
    return actions, -loss.sum(1)


class Gaussian:
    """
    A Gaussian with a standard deviation that does not depend on the state.

    :param log_std: shape (actions,)
    """

    def __init__(self, log_std: Rows) -> None:
        self.log_std = log_std

    def __call__(
        self,
        outputs: Rows,
        deterministic: bool = False,
        masks: Any = None,  # noqa: ARG002  # it has none
        wants_log_prob: bool = True,
    ) -> tuple[Actions, Rows | None]:
        std = np.exp(self.log_std)
        _check(outputs + std)
        actions = outputs if deterministic else outputs + th.empty(outputs.shape).normal_().numpy() * std
        if not wants_log_prob:
            return actions, None
        scaled = (actions - outputs) / std
        found: Rows = (-0.5 * scaled * scaled - self.log_std - LOG_SQRT_2_PI).sum(1)
        return actions, found
