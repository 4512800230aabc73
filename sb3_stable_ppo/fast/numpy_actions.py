"""
SB3's and sb3-contrib's distributions of actions in NumPy. Actions are drawn from the same random numbers of torch: the
same seed gives the same actions, but for rounding at a tie.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

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

from sb3_stable_ppo.fast.numpy_activations import sigmoid
from sb3_stable_ppo.fast.numpy_forms import ONE, NoNumpyForm, Rows, shared

Actions = npt.NDArray[Any]
MASKED = np.float32(-1e8)
"""The logit of an action that is masked, as sb3-contrib has it."""
HALF = np.float32(0.5)
LOG_SQRT_2_PI = np.float32(math.log(math.sqrt(2 * math.pi)))


class NotFinite(Exception):
    """The network put out what no distribution can be made of. torch's say so in their own words."""


class Judged(NamedTuple):
    """
    How likely actions are.

    :param log_prob: logarithms of their probabilities, shape (batch,)
    :param entropy: of the distributions, shape (batch,)
    :param back: from the gradients of both to those of the network's outputs and of the distribution's own parameters
    """

    log_prob: Rows
    entropy: Rows
    back: Callable[[Rows, Rows], tuple[Rows, list[Rows]]]


class NumpyActions(Protocol):
    """A distribution. Its ``parameters`` are those that are no network's."""

    parameters: list[th.nn.Parameter]

    def act(
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

    def judge(self, outputs: Rows, actions: Actions, masks: Any = None) -> Judged:
        """
        :param outputs: of the actor's last layer, shape (batch, outputs)
        :param actions: shape (batch, ...)
        :param masks: of valid actions, where the distribution takes them
        :raises NotFinite: if an output is not finite
        """
        ...


def numpy_actions(distribution: Any, log_std: th.nn.Parameter | None) -> NumpyActions:
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
        return Bernoullis()
    if kind is DiagGaussianDistribution and log_std is not None:
        return Gaussian(log_std)
    raise NoNumpyForm(f"{kind.__name__} has no NumPy form")


def check(outputs: Rows) -> None:
    """
    :param outputs: of a network
    :raises NotFinite: if their sum is not finite
    """
    if not math.isfinite(outputs.sum()):
        raise NotFinite


class Categoricals:
    """
    One or several categorical distributions.

    :param sizes: how many actions each has
    :param squeeze: actions of shape (batch,) instead of (batch, 1)
    """

    def __init__(self, sizes: tuple[int, ...], squeeze: bool) -> None:
        self.sizes, self.squeeze = sizes, squeeze
        self.parameters: list[th.nn.Parameter] = []
        self._starts = np.cumsum(sizes)[:-1]

    def act(
        self, outputs: Rows, deterministic: bool = False, masks: Any = None, wants_log_prob: bool = True
    ) -> tuple[Actions, Rows | None]:
        rows, chosen = np.arange(len(outputs)), []
        log_prob: Rows | None = None
        for logits in self._split(_masked(outputs, masks)):
            shifted = logits - logits.max(1, keepdims=True)
            odds = np.exp(shifted)
            actions = odds.argmax(1) if deterministic else _drawn(odds)
            chosen.append(actions)
            if wants_log_prob:
                found: Rows = shifted[rows, actions] - np.log(odds.sum(1))
                if masks is not None:
                    found[_without_choice(logits)] = 0
                log_prob = found if log_prob is None else log_prob + found
        return chosen[0] if self.squeeze else np.stack(chosen, 1), log_prob

    def judge(self, outputs: Rows, actions: Actions, masks: Any = None) -> Judged:
        rows, columns = np.arange(len(outputs)), actions.reshape(len(outputs), -1).astype(np.int64)
        log_prob, entropy = np.zeros((2, len(outputs)), np.float32)
        found = []
        for logits, chosen in zip(self._split(_masked(outputs, masks)), columns.T, strict=True):
            shifted = logits - logits.max(1, keepdims=True)
            odds = np.exp(shifted)
            total = odds.sum(1, keepdims=True)
            share, logs = odds / total, shifted - np.log(total)
            if masks is not None:
                logs[_without_choice(logits)] = 0
            surprise: Rows = -(share * logs).sum(1)  # of what is masked the share is exactly 0
            log_prob += logs[rows, chosen]
            entropy += surprise
            found.append((share, logs, surprise, chosen))

        def back(of_log_prob: Rows, of_entropy: Rows) -> tuple[Rows, list[Rows]]:
            gradients = []
            for share, logs, surprise, chosen in found:
                gradient = -share * (of_log_prob[:, None] + of_entropy[:, None] * (logs + surprise[:, None]))
                gradient[rows, chosen] += of_log_prob
                gradients.append(gradient)
            whole = gradients[0] if len(gradients) == 1 else np.concatenate(gradients, 1)
            return whole if masks is None else whole * _as_masks(masks, outputs), []

        return Judged(log_prob, entropy, back)

    def _split(self, outputs: Rows) -> list[Rows]:
        return [outputs] if len(self.sizes) == 1 else np.split(outputs, self._starts, axis=1)


def _as_masks(masks: Any, outputs: Rows) -> npt.NDArray[np.bool_]:
    return np.asarray(masks, dtype=bool).reshape(outputs.shape)


def _masked(outputs: Rows, masks: Any) -> Rows:
    check(outputs)
    return outputs if masks is None else np.where(_as_masks(masks, outputs), outputs, MASKED)


def _without_choice(logits: Rows) -> npt.NDArray[np.bool_]:
    """
    Rows of which all actions are masked. In float32 the logarithm of their number is lost beside ``MASKED``: torch has
    log-probabilities of 0 there, and an entropy of 0.
    """
    found: npt.NDArray[np.bool_] = logits.max(1) <= MASKED
    return found


def _drawn(odds: Rows) -> Actions:
    """As ``torch.multinomial`` draws one: the largest of odds divided by exponential random numbers."""
    noise = th.empty(odds.shape).exponential_(1).numpy()
    chosen: Actions = (odds / noise).argmax(1)
    return chosen


class Bernoullis:
    """Independent Bernoulli distributions."""

    def __init__(self) -> None:
        self.parameters: list[th.nn.Parameter] = []

    def act(
        self,
        outputs: Rows,
        deterministic: bool = False,
        masks: Any = None,  # noqa: ARG002  # it has none
        wants_log_prob: bool = True,
    ) -> tuple[Actions, Rows | None]:
        check(outputs)
        share = sigmoid(outputs)
        actions = np.rint(share) if deterministic else th.bernoulli(th.from_numpy(share)).numpy()
        return actions, _log_likelihood(outputs, actions) if wants_log_prob else None

    def judge(self, outputs: Rows, actions: Actions, masks: Any = None) -> Judged:  # noqa: ARG002  # it has none
        check(outputs)
        share = sigmoid(outputs)
        taken: Rows = actions.reshape(outputs.shape).astype(np.float32)
        entropy = -_log_likelihood(outputs, share)

        def back(of_log_prob: Rows, of_entropy: Rows) -> tuple[Rows, list[Rows]]:
            slope = -outputs * share * (ONE - share)
            found: Rows = of_log_prob[:, None] * (taken - share) + of_entropy[:, None] * slope
            return found, []

        return Judged(_log_likelihood(outputs, taken), entropy, back)


def _log_likelihood(logits: Rows, share: Actions) -> Rows:
    found: Rows = (logits * share - np.maximum(logits, 0) - np.log1p(np.exp(-np.abs(logits)))).sum(1)
    return found


class Gaussian:
    """
    A Gaussian with a standard deviation that does not depend on the state.

    :param log_std: shape (actions,)
    """

    def __init__(self, log_std: th.nn.Parameter) -> None:
        self.log_std = shared(log_std)
        self.parameters = [log_std]

    def act(
        self,
        outputs: Rows,
        deterministic: bool = False,
        masks: Any = None,  # noqa: ARG002  # it has none
        wants_log_prob: bool = True,
    ) -> tuple[Actions, Rows | None]:
        std: Rows = np.exp(self.log_std)
        check(outputs + std)
        actions = outputs if deterministic else outputs + th.empty(outputs.shape).normal_().numpy() * std
        if not wants_log_prob:
            return actions, None
        scaled = (actions - outputs) / std
        found: Rows = (-HALF * scaled * scaled - self.log_std - LOG_SQRT_2_PI).sum(1)
        return actions, found

    def judge(self, outputs: Rows, actions: Actions, masks: Any = None) -> Judged:  # noqa: ARG002  # it has none
        std: Rows = np.exp(self.log_std)
        check(outputs + std)
        taken: Rows = actions.reshape(outputs.shape).astype(np.float32)
        scaled: Rows = (taken - outputs) / std
        log_prob: Rows = (-HALF * scaled * scaled - self.log_std - LOG_SQRT_2_PI).sum(1)
        entropy = np.full(len(outputs), (self.log_std + HALF + LOG_SQRT_2_PI).sum(), np.float32)

        def back(of_log_prob: Rows, of_entropy: Rows) -> tuple[Rows, list[Rows]]:
            weight: Rows = of_log_prob[:, None]
            of_log_std: Rows = (weight * (scaled * scaled - ONE)).sum(0) + of_entropy.sum()
            step: Rows = weight * scaled
            of_outputs: Rows = step / std
            return of_outputs, [of_log_std]

        return Judged(log_prob, entropy, back)
