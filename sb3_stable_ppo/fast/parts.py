"""
Whether modules are still made of what they were made of: code that computes in their place must not compute the past.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

from torch import nn

OPTIONS = (bool, int, float, str, type(None))


class Parts:
    """
    What some modules are made of: their children, parameters and buffers, where in memory these are, and their options.

    :param modules: each by itself, without its children
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._modules = list(modules)
        kinds = ("_modules", "_parameters", "_buffers")
        # torch fills and empties these dicts, and never replaces one
        self._dicts = [found for module in self._modules for kind in kinds if (found := getattr(module, kind))]
        self._tensors = [
            tensor
            for module in self._modules
            for tensor in (*module._parameters.values(), *module._buffers.values())
            if tensor is not None
        ]
        self._objects, self._places = self._objects_now(), self._places_now()

    def are_in_place(self) -> bool:
        """Whether no child and no tensor has been replaced, and no tensor moved; to ask takes some microseconds."""
        return self._objects_now() == self._objects and self._places_now() == self._places

    def description(self) -> list[Any]:
        """All of it, the options of torch's modules, such as an activation's slope, and a ``forward`` of one's own."""
        options = [
            (id(module), name, value)
            for module in self._modules
            for name, value in vars(module).items()
            if name == "forward" or (type(module).__module__.startswith("torch.nn") and _is_option(name, value))
        ]
        return [self._objects, self._places, options]

    def _objects_now(self) -> list[int]:
        return [*map(id, chain.from_iterable(map(dict.values, self._dicts)))]

    def _places_now(self) -> list[int]:
        return [tensor.data_ptr() for tensor in self._tensors]


def _is_option(name: str, value: Any) -> bool:
    return name != "training" and isinstance(value, OPTIONS)
