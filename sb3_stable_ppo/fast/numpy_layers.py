"""
The layers of a small network in NumPy. For a few rows of a few numbers, torch's cost per call is most of what acting
takes; NumPy's is a tenth of it.

Weights are not copied: arrays share the memory of the module's parameters, so they are what the optimizer made of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch as th
from torch import nn

Rows = npt.NDArray[np.float32]
NumpyLayer = Callable[[Rows], Rows]
"""Takes rows of shape (batch, features), which it may overwrite only if it made them."""


class NoNumpyForm(Exception):
    """There is a layer that only torch computes."""


def shared(tensor: th.Tensor) -> Rows:
    """
    :param tensor: a parameter or a buffer, on the CPU, in fp32
    :return: an array on the same memory
    """
    if tensor.device.type != "cpu" or tensor.dtype != th.float32:
        raise NoNumpyForm(f"a weight is {tensor.dtype} on {tensor.device}")
    return tensor.detach().numpy()


def numpy_layers(modules: Iterable[nn.Module]) -> NumpyLayer:
    """
    Layers one after the other, in eval mode.

    :param modules: ``nn.Linear``, ``nn.LayerNorm``, BatchNorm and the activations that have a word; a module with a
        method ``numpy_layer()`` says itself what it is
    :return: their NumPy form
    :raises NoNumpyForm: naming the first layer that has none
    """
    layers = [_numpy_layer(module) for module in modules]

    def run(rows: Rows) -> Rows:
        for layer in layers:
            rows = layer(rows)
        return rows

    return run


def _numpy_layer(module: nn.Module) -> NumpyLayer:
    own: Any = getattr(module, "numpy_layer", None)
    if own is not None:
        found: NumpyLayer = own()
        return found
    if type(module) is nn.Linear:
        bias = None if module.bias is None else shared(module.bias)
        return partial(linear, weight=shared(module.weight).T, bias=bias)
    if type(module) is nn.LayerNorm and module.elementwise_affine and len(module.normalized_shape) == 1:
        mean = np.full((module.normalized_shape[0], 1), 1 / module.normalized_shape[0], np.float32)
        return partial(
            layer_norm,
            weight=shared(module.weight),
            bias=shared(module.bias),
            mean=mean,
            eps=np.float32(module.eps),
        )
    if isinstance(module, nn.BatchNorm1d):
        names = ("running_mean", "running_var", "weight", "bias")
        return partial(
            batch_norm, eps=np.float32(module.eps), **{name: shared(getattr(module, name)) for name in names}
        )
    if type(module) is nn.LeakyReLU:
        return partial(leaky_relu, slope=np.float32(module.negative_slope))
    if type(module) is nn.ELU:
        return partial(elu, alpha=np.float32(module.alpha))
    simple: dict[type[nn.Module], NumpyLayer] = {
        nn.ReLU: partial(np.maximum, np.float32(0)),
        nn.Tanh: np.tanh,
        nn.SiLU: silu,
        nn.Identity: _same,
    }
    if type(module) in simple:
        return simple[type(module)]
    raise NoNumpyForm(f"{type(module).__name__} has no NumPy form")


def linear(rows: Rows, weight: Rows, bias: Rows | None) -> Rows:
    """
    :param rows: shape (batch, inputs)
    :param weight: shape (inputs, outputs)
    :param bias: shape (outputs,), or None
    """
    found = rows @ weight
    if bias is not None:
        found += bias
    return found


def layer_norm(rows: Rows, weight: Rows, bias: Rows, mean: Rows, eps: np.float32) -> Rows:
    """
    ``nn.LayerNorm`` over the last dimension.

    :param rows: shape (batch, features)
    :param weight: shape (features,)
    :param bias: shape (features,)
    :param mean: ``1 / features``, shape (features, 1): a product with it is faster than ``np.mean``
    :param eps: of the norm
    """
    found = rows - rows @ mean
    scale = (found * found) @ mean
    scale += eps
    np.sqrt(scale, scale)
    found /= scale
    found *= weight
    found += bias
    return found


def batch_norm(rows: Rows, running_mean: Rows, running_var: Rows, weight: Rows, bias: Rows, eps: np.float32) -> Rows:
    """
    ``nn.BatchNorm1d`` in eval mode.

    :param rows: shape (batch, features)
    :param running_mean: shape (features,)
    :param running_var: shape (features,)
    :param weight: shape (features,)
    :param bias: shape (features,)
    :param eps: of the norm
    """
    found = rows - running_mean
    found *= weight / np.sqrt(running_var + eps)
    found += bias
    return found


def leaky_relu(rows: Rows, slope: np.float32) -> Rows:
    """
    :param rows: any shape
    :param slope: below zero, from 0 to 1
    """
    found: Rows = np.maximum(rows, rows * slope)
    return found


def elu(rows: Rows, alpha: np.float32) -> Rows:
    """
    :param rows: any shape
    :param alpha: what it comes to far below zero, negative
    """
    found: Rows = np.where(rows > 0, rows, alpha * np.expm1(np.minimum(rows, 0)))
    return found


def silu(rows: Rows) -> Rows:
    """
    :param rows: any shape
    """
    with np.errstate(over="ignore"):  # far below zero: exp is inf, and the result 0
        found: Rows = rows / (1 + np.exp(-rows))
    return found


def _same(rows: Rows) -> Rows:
    return rows
