"""
Weights cast to bfloat16 once per rollout: autocast casts them anew for each observation that is acted on, which takes
as long as a layer does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch as th
from torch import nn

LARGE = 2**14
"""Smaller weights are left to autocast."""


class CachedCasts:
    """
    Copies in bfloat16 of a module's large weights, for as long as those stay what they are.

    :param module: with convolutions and linear layers
    """

    def __init__(self, module: nn.Module) -> None:
        self.layers = [layer for layer in module.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
        self.forget()

    def __getstate__(self) -> dict[str, Any]:
        return {"layers": self.layers, "_casts": [], "_seen": None}

    def forget(self) -> None:
        """Cast anew the next time."""
        self._casts: list[tuple[nn.Module, Any, Any]] = []
        self._seen: list[tuple[int, int]] | None = None

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Within this context the copies stand in the weights' place (as ``torch.func.functional_call`` does it)."""
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
