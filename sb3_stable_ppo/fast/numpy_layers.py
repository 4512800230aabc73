"""
The layers of a small network in NumPy, forward and backward. For a few rows of a few numbers torch's cost per call is
most of what acting and learning take; NumPy's is a tenth of it.

Weights are not copied: arrays share the memory of the module's parameters, so they are what the optimizer made of them.
Each layer is called with rows of shape (batch, features). A layer can also be several modules of the same form, one for
each network, computed in one go: then rows have the shape (networks, batch, features), and so have gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn

from sb3_stable_ppo.fast.numpy_activations import SIMPLE, elu, leaky_relu
from sb3_stable_ppo.fast.numpy_forms import NoNumpyForm, NumpyLayer, Pullback, Rows, shared, shared_row


class Linear:
    """
    ``nn.Linear``.

    :param modules: whose weights it shares
    """

    def __init__(self, *modules: nn.Linear) -> None:
        self.weight = shared(*(module.weight for module in modules))
        self.transposed = self.weight.swapaxes(-1, -2)
        biases = [module.bias for module in modules if module.bias is not None]
        self.bias = shared_row(*biases) if biases else None

    def __call__(self, rows: Rows) -> Rows:
        found = rows @ self.transposed
        if self.bias is not None:
            found += self.bias
        return found

    def learn(self, rows: Rows) -> tuple[Rows, Pullback]:
        def back(gradient: Rows) -> tuple[Rows, list[Rows]]:
            bias = [] if self.bias is None else [_total(gradient)]
            return gradient @ self.weight, [gradient.swapaxes(-1, -2) @ rows, *bias]

        return self(rows), back


class LayerNorm:
    """
    ``nn.LayerNorm`` over one dimension.

    :param modules: whose weights it shares
    """

    def __init__(self, *modules: nn.LayerNorm) -> None:
        first = modules[0]
        if not first.elementwise_affine or first.bias is None or len(first.normalized_shape) != 1:
            raise NoNumpyForm("this LayerNorm has no NumPy form")
        self.weight = shared_row(*(module.weight for module in modules))
        self.bias = shared_row(*(module.bias for module in modules))
        self.eps = np.float32(first.eps)
        width = first.normalized_shape[0]
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
            found: Rows = gradient * normalised
            weights = [_total(found), _total(gradient)]
            inner: Rows = gradient * self.weight
            np.multiply(inner, normalised, out=found)
            shares: Rows = found @ self.mean
            inner -= inner @ self.mean
            inner -= np.multiply(normalised, shares, out=found)
            inner /= scale
            return inner, weights

        found = normalised * self.weight
        found += self.bias
        return found, back


class BatchNorm:
    """
    BatchNorm in eval mode, which is what a ``RunningBatchNorm1d`` is always in.

    :param modules: whose weights and statistics it shares
    """

    def __init__(self, *modules: nn.BatchNorm1d) -> None:
        names = ("running_mean", "running_var", "weight", "bias")
        self.running_mean, self.running_var, self.weight, self.bias = (
            shared_row(*(getattr(module, name) for module in modules)) for name in names
        )
        self.eps = np.float32(modules[0].eps)

    def __call__(self, rows: Rows) -> Rows:
        found = rows - self.running_mean
        found *= self.weight / np.sqrt(self.running_var + self.eps)
        found += self.bias
        return found

    def learn(self, rows: Rows) -> tuple[Rows, Pullback]:
        scale = np.sqrt(self.running_var + self.eps)
        normalised = (rows - self.running_mean) / scale

        def back(gradient: Rows) -> tuple[Rows, list[Rows]]:
            weights = [_total(gradient * normalised), _total(gradient)]
            return gradient * (self.weight / scale), weights

        return normalised * self.weight + self.bias, back


class Layers:
    """
    Layers one after the other, of one network or of several of the same form.

    :param networks: modules in their order: ``nn.Linear``, ``nn.LayerNorm``, BatchNorm and activations; a module with
        a method ``numpy_layer()`` says itself what it is, also for several networks if it has no parameters or buffers
    :raises NoNumpyForm: naming the first module that has none
    """

    def __init__(self, *networks: Sequence[nn.Module]) -> None:
        self.layers = [_numpy_layer(*modules) for modules in zip(*networks, strict=True)]
        self.parameters = [
            parameter
            for modules in zip(*networks, strict=True)
            for of_one_name in zip(*(module.parameters() for module in modules), strict=True)
            for parameter in of_one_name
        ]
        """In the order of the gradients: those of a module one by one, of each network in turn."""
        self.learns = not any(type(module) is nn.BatchNorm1d for modules in networks for module in modules)
        """Not in torch's way of BatchNorm, which normalises an update by its minibatches."""
        self._are_several = len(networks) > 1

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
            found: list[list[Rows]] = []
            for way in reversed(ways):
                gradient, of_layer = way(gradient)
                found.append(of_layer)
            gradients = [each for of_layer in reversed(found) for each in of_layer]
            return gradient, [each for all_of in gradients for each in all_of] if self._are_several else gradients

        return rows, all_back


def _total(rows: Rows) -> Rows:
    """Over the batch: a product with ones, which is faster than np.sum."""
    found: Rows = np.ones((1, rows.shape[-2]), np.float32) @ rows
    return found[..., 0, :]


def _numpy_layer(*modules: Any) -> NumpyLayer:
    module = modules[0]
    own: Any = getattr(module, "numpy_layer", None)
    if own is not None:
        if len(modules) > 1 and module.state_dict():
            raise NoNumpyForm(f"several of {type(module).__name__} have no NumPy form together")
        found: NumpyLayer = own()
        return found
    if type(module) is nn.Linear:
        return Linear(*modules)
    if type(module) is nn.LayerNorm:
        return LayerNorm(*modules)
    if isinstance(module, nn.BatchNorm1d):
        return BatchNorm(*modules)
    if type(module) is nn.LeakyReLU:
        return leaky_relu(np.float32(module.negative_slope))
    if type(module) is nn.ELU:
        return elu(np.float32(module.alpha))
    if type(module) in SIMPLE:
        return SIMPLE[type(module)]
    raise NoNumpyForm(f"{type(module).__name__} has no NumPy form")
