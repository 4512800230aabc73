"""
Whether anybody listens to modules: then they must be called one by one, as torch calls them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.nn.modules import module as hooks

KINDS = ("forward_hooks", "forward_pre_hooks", "backward_hooks", "backward_pre_hooks")


class Hooks:
    """
    What listens to some modules, or to all modules there are; code other than torch's would not call it.

    :param modules: each by itself, without its children
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self.modules = list(modules)
        self._dicts: list[Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"modules": self.modules, "_dicts": None}

    def __bool__(self) -> bool:
        if self._dicts is None:
            # torch fills and empties these dicts, and never replaces one: to look at them takes a microsecond
            everywhere = [getattr(hooks, f"_global_{kind}") for kind in KINDS]
            self._dicts = everywhere + [getattr(module, f"_{kind}") for module in self.modules for kind in KINDS]
        return any(self._dicts)
