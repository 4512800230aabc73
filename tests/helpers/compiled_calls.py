"""In place of ``torch.compile``: what is called compiled; and comparisons of what comes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch as th

ONE, EACH = "_run_layers", "run_fused_layers"
"""What is compiled of all networks together, and of one by itself."""


class Calls:
    """In place of ``torch.compile``: what was called, on how many rows; ``fails`` as compiling may."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.called: list[tuple[str, int]] = []
        self.fails: set[str] = set()

    def compile_layers(self, layers: Any, device: th.device) -> Callable[[th.Tensor], Any]:
        name = layers.__name__
        self.made.append(name)

        def call(inputs: th.Tensor) -> Any:
            if name in self.fails:
                raise PermissionError("cannot write the cache")
            self.called.append((name, len(inputs)))
            return layers(inputs)

        return call


def direction(gradients: dict[str, th.Tensor], others: dict[str, th.Tensor]) -> float:
    """Cosine of the angle between both."""
    mine, theirs = (th.cat([each.flatten() for each in given.values()]) for given in (gradients, others))
    return float(th.cosine_similarity(mine, theirs, dim=0))


def assert_same(found: Any, expected: Any) -> None:
    th.testing.assert_close(found, expected, atol=0, rtol=0)
