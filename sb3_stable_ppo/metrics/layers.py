"""
Measures of a layer's health: tensors in, floats out. No side effects, no hooks, no random numbers.

A *unit* is a channel of a convolution or a neuron of a linear layer; *activations* have shape (batch, units) or
(batch, units, height, width). *Features* are a layer's activations flattened to (batch, width), on as many rows as it
is wide at least, or the batch bounds their rank.
"""

from __future__ import annotations

from typing import NamedTuple

import torch as th
from torch import nn

from sb3_stable_ppo.common.checks import number


def live_units(activations: th.Tensor) -> int:
    """
    How many units have a positive output somewhere: on any input and, for a convolution, at any place of its map.

    ReLU units that are not live are dead. LeakyReLU units that are not live still pass a gradient, but are linear:
    a net of them is a linear net, which a count of zeros would miss.

    >>> live_units(th.tensor([[0.0, 2.0, -0.1], [0.0, 0.0, -0.2]]))
    1

    :param activations: outputs of an activation module, shape (batch, units, ...)
    """
    return int((activations.amax(dim=but_units(activations)) > 0).sum())


def dead_fraction(activations: th.Tensor) -> float:
    """
    Share of the units without any positive output; see :func:`live_units`. Of ReLU and its like: dead, they pass no
    gradient. docs/metrics.md has its range in healthy runs, by norm.

    :param activations: outputs of an activation module, shape (batch, units, ...)
    """
    return 1.0 - live_units(activations) / activations.shape[1]


def linear_fraction(activations: th.Tensor) -> float:
    """
    The same share of LeakyReLU and its like, by another name: such units still learn, but a layer of them does no more
    than a matrix would.

    :param activations: outputs of an activation module, shape (batch, units, ...)
    """
    return dead_fraction(activations)


def saturated_fraction(activations: th.Tensor, min_std: float = 1e-3) -> float:
    """
    Share of the units whose output has a standard deviation below ``min_std`` over all inputs and places: for tanh and
    sigmoid, whose sign says nothing (CLAIRE's dead units of tanh, https://arxiv.org/abs/2405.00662). Healthy: near 0.

    >>> saturated_fraction(th.tensor([[1.0, 0.1], [1.0, -0.4]]))
    0.5

    :param activations: outputs of a bounded activation, shape (batch, units, ...)
    :param min_std: below it, a unit says the same whatever it sees
    """
    return float(1 - (spread(activations) >= min_std).float().mean())  # a unit that is not a number is saturated


def dormant_fraction(activations: th.Tensor, tau: float = 0.025) -> float:
    """
    Share of the units whose mean ``|activation|`` is at most ``tau`` times the layer's mean (Sokar et al., 2023,
    https://arxiv.org/abs/2302.12902); for a convolution the mean goes over batch and space.

    >>> dormant_fraction(th.tensor([[0.0, 2.0], [0.0, 4.0]]))
    0.5

    :param activations: outputs of an activation module, shape (batch, units, ...)
    :param tau: dormancy threshold
    """
    means = activations.abs().mean(dim=but_units(activations))
    return float(1 - (means / (means.mean() + 1e-9) > tau).float().mean())  # a unit that is not a number is dormant


def sparsity(activations: th.Tensor) -> float:
    """
    Share of outputs that are exactly zero, input by input. No sign of death: a unit may be silent for most inputs and
    live for the rest. ReLU: 0.5 at birth, 0.8 or 0.9 later; LeakyReLU: 0.

    >>> sparsity(th.tensor([[0.0, 2.0], [1.0, 0.0]]))
    0.5

    :param activations: outputs of an activation module, shape (batch, units, ...)
    """
    return 1 - int(activations.count_nonzero()) / activations.numel()


class Ranks(NamedTuple):
    """How many directions features use, counted in four ways from the singular values s of the matrix, uncentred."""

    effective_rank: float
    """exp of the entropy of s / sum(s) (Roy & Vetterli, 2007)."""
    srank: int
    """Least k whose largest k values have 99% of sum(s) (Kumar et al., 2021, https://arxiv.org/abs/2010.14498)."""
    pca_rank: int
    """Least k whose largest k values have 99% of sum(s^2) (CLAIRE's headline; Yang et al., 2020)."""
    stable_rank: float
    """sum(s^2) / max(s^2) (Rudelson & Vershynin, 2007): at least 1, and hardly moved by small values."""


def ranks(features: th.Tensor, delta: float = 0.01) -> Ranks:
    """
    1 where all inputs look alike to the layer, up to the smaller side of the matrix. Healthy: far above the number of
    actions, and not falling: the rank falls long before the return does (https://arxiv.org/abs/2405.00662).

    >>> ranks(th.diag(th.tensor([4.0, 2.0, 0.001])))[1:3]
    (2, 2)

    :param features: shape (batch, width)
    :param delta: the share that ``srank`` and ``pca_rank`` leave out, from 0 to 1
    :return: zeros for features that are all zero, or not finite
    :raises ValueError: for another ``delta``
    """
    delta = number(delta, "delta", high=1.0)
    if not bool(th.isfinite(features).all()) or not bool(features.any()):
        return Ranks(0.0, 0, 0, 0.0)
    # A GPU is slow in float64, and every figure below would be a wait for it
    values = th.linalg.svdvals(features.cpu().double())
    shares = values / values.sum()
    entropy = -(shares * shares.clamp_min(1e-300).log()).sum()
    squares = values.square()
    return Ranks(
        float(entropy.exp()),
        _least(values, 1 - delta),
        _least(squares, 1 - delta),
        float(squares.sum() / squares[0]),
    )


def srank(features: th.Tensor, delta: float = 0.01) -> int:
    """
    :class:`Ranks`' ``srank`` alone.

    >>> srank(th.diag(th.tensor([4.0, 2.0, 0.001])))
    2

    :param features: shape (batch, width)
    :param delta: the share that is left out
    """
    return ranks(features, delta).srank


def feature_norm(features: th.Tensor) -> float:
    """
    Mean over the inputs of the Euclidean norm; of activations, or of what goes into them. Healthy: within a few times
    its value after the first updates; a norm that grows tenfold precedes collapse (https://arxiv.org/abs/2405.00662).

    >>> feature_norm(th.tensor([[3.0, 4.0], [0.0, 0.0]]))
    2.5

    :param features: shape (batch, ...)
    """
    return float(th.linalg.vector_norm(features, dim=list(range(1, features.dim()))).mean())


def feature_similarity(features: th.Tensor) -> float:
    """
    Mean cosine between the features of two different inputs. 1: the output is near-constant, whatever is seen.
    It is no measure of death by itself: where frames hardly differ, as in Pong, a network that lives may come near 1.

    >>> feature_similarity(th.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]]))  # of three pairs, one alike
    0.3333333333333333

    :param features: shape (batch, ...), of two inputs at least
    """
    rows = features.flatten(1).cpu().double()  # MPS has no float64
    units = rows / th.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_min(1e-12)
    count = len(units)
    return float((units.sum(dim=0).square().sum() - units.square().sum()) / (count * (count - 1)))


def spread(activations: th.Tensor) -> th.Tensor:
    """
    Standard deviation of each unit over rows and places; in two passes, which is exact enough for units that hardly
    vary and seven times faster than ``std`` over several dimensions.

    :param activations: shape (rows, units, ...)
    """
    dims = but_units(activations)
    deviation = activations - activations.mean(dim=dims, keepdim=True)
    return deviation.square_().mean(dim=dims).sqrt()


def but_units(activations: th.Tensor) -> list[int]:
    """All dimensions but the second, the units'. (Reducing them where they are is faster than moving them.)"""
    return [dim for dim in range(activations.dim()) if dim != 1]


def _least(values: th.Tensor, share: float) -> int:
    """How many of the first values it takes to make up a share of their sum."""
    few = int((values.cumsum(0) < share * values.sum()).sum())
    return min(few + 1, len(values))  # the last sum may fall short of the whole by rounding


BatchNorm = (nn.BatchNorm1d, nn.BatchNorm2d)
