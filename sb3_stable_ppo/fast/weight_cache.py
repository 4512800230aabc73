"""
Weights that are cast to bfloat16 once per rollout. Autocast by itself casts them in each step, which takes as long as
computing a layer for a few observations.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch as th
from torch import nn

LARGE = 2**14
"""Number of values; smaller weights are left to autocast, since casting them costs next to nothing."""


class CachedCasts:
    """
    Copies in bfloat16 of a module's large weights. They are made anew when a weight has changed.

    A change is noticed by the weight's address and by torch's count of its in-place changes. ``tensor.data`` and fused
    optimizers change a weight without being counted: call :meth:`forget` after those.

    :param module: whose convolutions and linear layers are taken
    """

    def __init__(self, module: nn.Module) -> None:
        self.layers = [layer for layer in module.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
        self.forget()

    def __getstate__(self) -> dict[str, Any]:
        return {"layers": self.layers, "_casts": [], "_seen": None}

    def forget(self) -> None:
        """Drop the copies; the next use makes new ones."""
        self._casts: list[tuple[nn.Module, Any, Any]] = []
        self._seen: list[tuple[int, int]] | None = None

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """
        Within this context the layers compute with the copies in place of their weights, without gradients.
        ``torch.func.functional_call`` swaps parameters in the same way.
        """
        seen = [(layer.weight._version, layer.weight.data_ptr()) for layer in self.layers]
        if seen != self._seen:
            large = [layer for layer in self.layers if layer.weight.numel() >= LARGE]
            self._casts = [(layer, layer.weight, layer.weight.detach().to(th.bfloat16)) for layer in large]
            self._seen = seen
        try:
            for layer, _, cast in self._casts:
                layer._parameters["weight"] = cast
            yield
        finally:
            for layer, weight, _ in self._casts:
                layer._parameters["weight"] = weight
