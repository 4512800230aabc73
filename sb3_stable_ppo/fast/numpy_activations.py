"""
Activations in NumPy, with their derivatives.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import nn

from sb3_stable_ppo.fast.numpy_forms import ONE, NumpyLayer, Pullback, Rows


class Activation:
    """
    An activation without parameters.

    :param function: of rows
    :param slope: its derivative, of the rows and of what the function made of them, in a new array
    """

    def __init__(self, function: Callable[[Rows], Rows], slope: Callable[[Rows, Rows], Rows]) -> None:
        self.function, self.slope = function, slope

    def __call__(self, rows: Rows) -> Rows:
        return self.function(rows)

    def learn(self, rows: Rows) -> tuple[Rows, Pullback]:
        found = self.function(rows)

        def back(gradient: Rows) -> tuple[Rows, list[Rows]]:
            slope = self.slope(rows, found)
            slope *= gradient
            return slope, []

        return found, back


def leaky_relu(slope: np.float32) -> Activation:
    def function(x: Rows) -> Rows:
        below = x * slope
        found: Rows = np.maximum(x, below, out=below) if 0 <= slope <= 1 else np.where(x > 0, x, below)
        return found

    def derivative(x: Rows, _: Rows) -> Rows:
        found = (x > 0).astype(np.float32)  # several times faster than np.where
        found *= ONE - slope
        found += slope
        return found

    return Activation(function, derivative)


def elu(alpha: np.float32) -> Activation:
    return Activation(
        lambda x: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),
        lambda x, y: np.where(x > 0, ONE, y + alpha),
    )


def sigmoid(rows: Rows) -> Rows:
    """
    :param rows: any shape
    """
    with np.errstate(over="ignore"):  # far below zero: exp is inf, and the result 0
        found: Rows = ONE / (ONE + np.exp(-rows))
    return found


def _silu_slope(rows: Rows, found: Rows) -> Rows:
    share = sigmoid(rows)
    return share + found * (ONE - share)


class ConcatenatedReLU:
    """``[relu(x), relu(-x)]`` along the features, of which there are twice as many then."""

    def __call__(self, rows: Rows) -> Rows:
        found = np.concatenate((rows, -rows), axis=-1)
        np.maximum(found, 0, out=found)
        return found

    def learn(self, rows: Rows) -> tuple[Rows, Pullback]:
        def back(gradient: Rows) -> tuple[Rows, list[Rows]]:
            above, below = np.split(gradient, 2, axis=-1)
            found = (rows > 0) * above
            found -= (rows < 0) * below
            return found, []

        return self(rows), back


SIMPLE: dict[type[nn.Module], NumpyLayer] = {
    nn.ReLU: Activation(lambda x: np.maximum(x, 0), lambda x, _: (x > 0).astype(np.float32)),
    nn.Tanh: Activation(np.tanh, lambda _, y: ONE - y * y),
    nn.SiLU: Activation(lambda x: x * sigmoid(x), _silu_slope),
    nn.Identity: Activation(lambda x: x, lambda x, _: np.ones_like(x)),
}
