"""
Measures of a layer's health: tensors in, floats out. No side effects, no hooks, no random numbers.

A *unit* is a channel of a convolution or a neuron of a linear layer; activations have shape (batch, units) or
(batch, units, height, width).
"""

from __future__ import annotations

import torch as th


def live_units(activations: th.Tensor) -> int:
    """
    How many units have a positive output somewhere: on any input and, for a convolution, at any place of its map.

    ReLU units that are not live are dead. LeakyReLU units that are not live still pass a gradient, but are linear:
    a net of them is a linear net, which a count of zeros would miss.

    >>> live_units(th.tensor([[0.0, 2.0, -0.1], [0.0, 0.0, -0.2]]))
    1

    :param activations: outputs of an activation module, shape (batch, units, ...)
    """
    return int((activations > 0).movedim(1, 0).flatten(1).any(dim=1).sum())


def dead_fraction(activations: th.Tensor) -> float:
    """
    Share of the units without any positive output; see :func:`live_units`. Healthy: below 0.1 in our convolutions;
    stock NatureCNN starts with 0.3 to 0.4.

    :param activations: outputs of an activation module, shape (batch, units, ...)
    """
    return 1.0 - live_units(activations) / activations.shape[1]


def dormant_fraction(activations: th.Tensor, tau: float = 0.025) -> float:
    """
    Share of the units whose mean ``|activation|`` is at most ``tau`` times the layer's mean (Sokar et al., 2023,
    https://arxiv.org/abs/2302.12902); for a convolution the mean goes over batch and space.

    >>> dormant_fraction(th.tensor([[0.0, 2.0], [0.0, 4.0]]))
    0.5

    :param activations: outputs of an activation module, shape (batch, units, ...)
    :param tau: dormancy threshold
    """
    means = activations.abs().movedim(1, 0).flatten(1).mean(dim=1)
    return float(1 - (means / (means.mean() + 1e-9) > tau).float().mean())  # a unit that is not a number is dormant


def srank(features: th.Tensor, delta: float = 0.01) -> int:
    """
    How many of the largest singular values it takes to make up ``1 - delta`` of their sum (Kumar et al., 2021,
    https://arxiv.org/abs/2010.14498): 1 where all inputs look alike to the layer, up to the smaller side of the matrix.

    >>> srank(th.diag(th.tensor([4.0, 2.0, 0.001])))
    2

    :param features: shape (batch, units); as many rows as units at least, or the batch bounds it
    :param delta: the share that is left out
    :return: 0 for features that are all zero, or not finite
    """
    if not bool(th.isfinite(features).all()):
        return 0
    values = th.linalg.svdvals(features.double())
    total = values.sum()
    return int((values.cumsum(0) < (1 - delta) * total).sum()) + 1 if total > 0 else 0
