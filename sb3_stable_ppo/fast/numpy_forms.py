"""
What all that is computed in NumPy is made of: rows, layers, and arrays that share the memory of torch's tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch as th

Rows = npt.NDArray[np.float32]
ONE = np.float32(1)
Pullback = Callable[[Rows], tuple[Rows, list[Rows]]]
"""From the gradient of what a layer put out to that of its input and those of its parameters, in torch's order."""


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


def shared(*tensors: th.Tensor) -> Rows:
    """
    :param tensors: parameters or buffers of the same shape, one for each network. Several are moved to memory in which
        they lie one behind the other
    :return: an array on the same memory; of several, along a first dimension
    :raises NoNumpyForm: if one is not on the CPU in fp32
    """
    for tensor in tensors:
        if tensor.device.type != "cpu" or tensor.dtype != th.float32:
            raise NoNumpyForm(f"a weight is {tensor.dtype} on {tensor.device}")
    if len(tensors) == 1:
        return tensors[0].detach().numpy()
    together = th.stack([tensor.detach() for tensor in tensors])
    for tensor, place in zip(tensors, together, strict=True):
        tensor.data = place
    return together.numpy()


def shared_row(*tensors: th.Tensor) -> Rows:
    """
    As :func:`shared`, of vectors: shape (features,), of several (networks, 1, features).

    :param tensors: parameters or buffers of the same shape
    """
    array = shared(*tensors)
    return array if array.ndim == 1 else array[:, None]
