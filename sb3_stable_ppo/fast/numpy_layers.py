"""
The layers of a small network in NumPy, forward and backward. For a few rows of a few numbers torch's cost per call is
most of what acting and learning take; NumPy's is a tenth of it.

Weights are not copied: arrays share the memory of the module's parameters, so they are what the optimizer made of them.
Each layer is called with rows of shape (batch, features). Its ``learn`` also returns its ``Pullback``: from the
gradient of what it put out, that of its input, and those of its parameters in torch's order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch as th
from torch import nn

Rows = npt.NDArray[np.float32]
ONE = np.float32(1)
Pullback = Callable[[Rows], tuple[Rows, list[Rows]]]


class NumpyLayer(Protocol):
    """One layer."""

    def __call__(self, rows: Rows) -> Rows:
        """
        :param rows: shape (batch, features), left as they are
        """
        ...

    def learn(self, rows: Rows) -> tuple[Rows, Pullback]:
        """
        :param rows: shape (batch, features), left as they are
        :return: what the call returns, and the way back
        """
        ...


class NoNumpyForm(Exception):
    """There is something that only torch computes."""


def shared(tensor: th.Tensor) -> Rows:
    """
    :param tensor: a parameter or a buffer
    :return: an array on the same memory
    :raises NoNumpyForm: if it is not on the CPU in fp32
    """
    if tensor.device.type != "cpu" or tensor.dtype != th.float32:
        raise NoNumpyForm(f"a weight is {tensor.dtype} on {tensor.device}")
    return tensor.detach().numpy()


class Linear:
    """
    ``nn.Linear``.

    :param module: whose weights it shares
    """

    def __init__(self, module: nn.Linear) -> None:
        self.weight = shared(module.weight)
        self.bias = None if module.bias is None else shared(module.bias)

    def __call__(self, rows: Rows) -> Rows:
        found = rows @ self.weight.T
        if self.bias is not None:
            found += self.bias
        return found

    def learn(self, rows: Rows) -> tuple[Rows, Pullback]:
        def back(gradient: Rows) -> tuple[Rows, list[Rows]]:
            bias = [] if self.bias is None else [gradient.sum(0)]
            return gradient @ self.weight, [gradient.T @ rows, *bias]

        return self(rows), back


class LayerNorm:
    """
    ``nn.LayerNorm`` over one dimension.

    :param module: whose weights it shares
    """

    def __init__(self, module: nn.LayerNorm) -> None:
        if not module.elementwise_affine or module.bias is None or len(module.normalized_shape) != 1:
            raise NoNumpyForm("this LayerNorm has no NumPy form")
        self.weight, self.bias, self.eps = shared(module.weight), shared(module.bias), np.float32(module.eps)
        width = module.normalized_shape[0]
        self.mean: Rows = np.full((width, 1), 1 / width, np.float32)  # a product with it is faster than np.mean

    def _normalised(self, rows: Rows) -> tuple[Rows, Rows]:
        found = rows - rows @ self.mean
        scale = (found * found) @ self.mean
        scale += self.eps
        np.sqrt(scale, scale)
        found /= scale
        return found, scale

    def __call__(self, rows: Rows) -> Rows:
        found, _ = self._normalised(rows)
        found *= self.weight
        found += self.bias
        return found

    def learn(self, rows: Rows) -> tuple[Rows, Pullback]:
        normalised, scale = self._normalised(rows)

        def back(gradient: Rows) -> tuple[Rows, list[Rows]]:
            weights: list[Rows] = [(gradient * normalised).sum(0), gradient.sum(0)]
            inner: Rows = gradient * self.weight
            found: Rows = inner - inner @ self.mean
            found -= normalised * ((inner * normalised) @ self.mean)
            found /= scale
            return found, weights

        found = normalised * self.weight
        found += self.bias
        return found, back


class BatchNorm:
    """
    BatchNorm in eval mode, which is what a ``RunningBatchNorm1d`` is always in.

    :param module: whose weights and statistics it shares
    """

    def __init__(self, module: nn.BatchNorm1d) -> None:
        assert module.running_mean is not None
        assert module.running_var is not None
        self.running_mean, self.running_var = shared(module.running_mean), shared(module.running_var)
        self.weight, self.bias, self.eps = shared(module.weight), shared(module.bias), np.float32(module.eps)

    def __call__(self, rows: Rows) -> Rows:
        found = rows - self.running_mean
        found *= self.weight / np.sqrt(self.running_var + self.eps)
        found += self.bias
        return found

    def learn(self, rows: Rows) -> tuple[Rows, Pullback]:
        scale = np.sqrt(self.running_var + self.eps)
        normalised = (rows - self.running_mean) / scale

        def back(gradient: Rows) -> tuple[Rows, list[Rows]]:
            weights = [(gradient * normalised).sum(0), gradient.sum(0)]
            return gradient * (self.weight / scale), weights

        return normalised * self.weight + self.bias, back


class Activation:
    """
    An activation without parameters.

    :param function: of rows
    :param slope: its derivative, of the rows and of what the function made of them
    """

    def __init__(self, function: Callable[[Rows], Rows], slope: Callable[[Rows, Rows], Rows]) -> None:
        self.function, self.slope = function, slope

    def __call__(self, rows: Rows) -> Rows:
        return self.function(rows)

    def learn(self, rows: Rows) -> tuple[Rows, Pullback]:
        found = self.function(rows)
        return found, lambda gradient: (gradient * self.slope(rows, found), [])


class Layers:
    """
    Layers one after the other.

    :param modules: ``nn.Linear``, ``nn.LayerNorm``, BatchNorm and activations; a module with a method
        ``numpy_layer()`` says itself what it is
    :raises NoNumpyForm: naming the first module that has none
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        modules = list(modules)
        self.layers = [_numpy_layer(module) for module in modules]
        self.parameters = [parameter for module in modules for parameter in module.parameters()]
        self.learns = not any(type(module) is nn.BatchNorm1d for module in modules)
        """Not in torch's way of BatchNorm, which normalises an update by its minibatches."""

    def __call__(self, rows: Rows) -> Rows:
        for layer in self.layers:
            rows = layer(rows)
        return rows

    def learn(self, rows: Rows) -> tuple[Rows, Pullback]:
        ways: list[Pullback] = []
        for layer in self.layers:
            rows, back = layer.learn(rows)
            ways.append(back)

        def all_back(gradient: Rows) -> tuple[Rows, list[Rows]]:
            found: list[Sequence[Rows]] = []
            for way in reversed(ways):
                gradient, of_layer = way(gradient)
                found.append(of_layer)
            return gradient, [each for of_layer in reversed(found) for each in of_layer]

        return rows, all_back


def _numpy_layer(module: nn.Module) -> NumpyLayer:
    own: Any = getattr(module, "numpy_layer", None)
    if own is not None:
        found: NumpyLayer = own()
        return found
    if type(module) is nn.Linear:
        return Linear(module)
    if type(module) is nn.LayerNorm:
        return LayerNorm(module)
    if isinstance(module, nn.BatchNorm1d):
        return BatchNorm(module)
    if type(module) is nn.LeakyReLU:
        return _leaky_relu(np.float32(module.negative_slope))
    if type(module) is nn.ELU:
        return _elu(np.float32(module.alpha))
    if type(module) in SIMPLE:
        return SIMPLE[type(module)]
    raise NoNumpyForm(f"{type(module).__name__} has no NumPy form")


def _leaky_relu(slope: np.float32) -> Activation:
    if not 0 <= slope <= 1:
        return Activation(lambda x: np.where(x > 0, x, x * slope), lambda x, _: np.where(x > 0, ONE, slope))
    return Activation(lambda x: np.maximum(x, x * slope), lambda x, _: np.where(x > 0, ONE, slope))


def _elu(alpha: np.float32) -> Activation:
    return Activation(
        lambda x: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),
        lambda x, y: np.where(x > 0, ONE, y + alpha),
    )


def _sigmoid(rows: Rows) -> Rows:
    with np.errstate(over="ignore"):  # far below zero: exp is inf, and the result 0
        found: Rows = ONE / (ONE + np.exp(-rows))
    return found


def _silu_slope(rows: Rows, found: Rows) -> Rows:
    sigmoid = _sigmoid(rows)
    return sigmoid + found * (ONE - sigmoid)


SIMPLE: dict[type[nn.Module], NumpyLayer] = {
    nn.ReLU: Activation(lambda x: np.maximum(x, 0), lambda x, _: (x > 0).astype(np.float32)),
    nn.Tanh: Activation(np.tanh, lambda _, y: ONE - y * y),
    nn.SiLU: Activation(lambda x: x * _sigmoid(x), _silu_slope),
    nn.Identity: Activation(lambda x: x, lambda x, _: np.ones_like(x)),
}
