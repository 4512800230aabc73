"""
Measures of weights, updates, gradients and norms: tensors in, floats out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch as th

from sb3_stable_ppo.metrics.layers import but_units, spread

Tensors = Mapping[str, th.Tensor]


def weight_norm(weights: Tensors) -> float:
    """
    Euclidean norm of all weights together. It grows in most runs; a sharp rise precedes a loss of plasticity (Lyle et
    al., 2024, https://arxiv.org/abs/2407.01800).

    >>> weight_norm({"a": th.tensor([3.0]), "b": th.tensor([[4.0]])})
    5.0

    :param weights: by name
    """
    return _norm([tensor.detach() for tensor in weights.values()])


def distance(weights: Tensors, others: Tensors) -> float:
    """
    Euclidean distance between two sets of weights, such as now and at init: what regularising towards the init
    bounds (Kumar et al., 2023, https://arxiv.org/abs/2308.11958).

    :param weights: by name
    :param others: of the same names and shapes
    """
    return _norm([tensor.detach() - others[name] for name, tensor in weights.items()])


def update_ratio(before: Tensors, after: Tensors) -> float:
    """
    Size of an update relative to the weights, ``||after - before|| / ||before||``. Pong's first updates: 0.004 to 0.03;
    where stock PPO collapses at once: 0.5.

    >>> round(update_ratio({"a": th.tensor([3.0, 4.0])}, {"a": th.tensor([3.0, 4.5])}), 6)
    0.1

    :param before: weights by name
    :param after: the same after the update
    """
    return distance(after, before) / max(weight_norm(before), 1e-12)


def gradient_norms(gradients: Tensors) -> dict[str, float]:
    """
    Euclidean norm of each gradient, by name; the clipping of SB3 is over all of them together. 0: nothing reaches the
    layer; a layer whose norm is a thousand times its neighbours' is where gradients explode.

    :param gradients: by name, before they are clipped
    """
    return {name: float(th.linalg.vector_norm(tensor)) for name, tensor in gradients.items()}


def grama_fraction(gradient: th.Tensor, tau: float = 0.025) -> float:
    """
    Share of a layer's units whose mean ``|gradient|`` is at most ``tau`` times the layer's mean: dormancy by gradient
    (GraMa, https://arxiv.org/abs/2505.24061), which sees units that have stopped learning whatever their activation.
    A common factor, as gradient clipping applies, makes no difference. The paper's threshold is not known to us:
    ``tau`` is that of the dormant fraction.

    >>> grama_fraction(th.tensor([[1.0, 1.0], [0.0, 0.0]]))
    0.5

    :param gradient: of the weight of a linear layer or convolution, shape (units, ...)
    :param tau: dormancy threshold
    """
    means = gradient.abs().flatten(1).mean(dim=1)
    return float(1 - (means / (means.mean() + 1e-12) > tau).float().mean())


def norm_drift(inputs: th.Tensor, running_mean: th.Tensor, running_var: th.Tensor, eps: float = 1e-5) -> float:
    """
    How far BatchNorm's running statistics, with which SB3 acts, are from those of a batch, with which it learns: mean
    over channels of ``|mean - running_mean| / running_std + |ln(std / running_std)|``. Pong's first updates: 0.1 to 1.

    >>> norm_drift(th.tensor([[1.0], [3.0]]), th.tensor([2.0]), th.tensor([1.0]))
    0.0

    :param inputs: what goes into the norm, shape (batch, channels, ...)
    :param running_mean: shape (channels,)
    :param running_var: shape (channels,)
    :param eps: the norm's
    """
    mean = inputs.mean(dim=but_units(inputs))
    std = (spread(inputs).square() + eps).sqrt()
    running_std = (running_var + eps).sqrt()
    shift = (mean - running_mean).abs() / running_std
    return float((shift + (std / running_std).log().abs()).mean())


def _norm(tensors: list[th.Tensor]) -> float:
    return math.sqrt(sum(float(th.linalg.vector_norm(tensor)) ** 2 for tensor in tensors))
