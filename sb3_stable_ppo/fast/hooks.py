"""
Whether anybody listens to modules: then they must be called one by one, as torch calls them.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.nn.modules import module as hooks

GLOBAL_HOOKS = (
    "_global_forward_hooks",
    "_global_forward_pre_hooks",
    "_global_backward_hooks",
    "_global_backward_pre_hooks",
)


def have_hooks(modules: Iterable[nn.Module]) -> bool:
    """
    :param modules: each by itself, without its children
    :return: whether any of them, or all modules there are, have a hook, which code other than torch's would not call
    """
    return any(getattr(hooks, name) for name in GLOBAL_HOOKS) or any(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
        for module in modules
    )
