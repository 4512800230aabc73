"""
All that a network consists of, to be copied and put back in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch as th
from torch import nn

from sb3_stable_ppo.common.tensors import copied

EXTRA_STATE = "_extra_state"
"""Under which name torch keeps what a module's ``get_extra_state`` gives."""


def state_of(module: nn.Module) -> dict[str, Any]:
    """
    ``state_dict()``, and the buffers that are not saved.

    :param module: with its children; parameters and buffers are not copied
    """
    return {**dict(module.named_buffers()), **module.state_dict()}


def put_back(module: nn.Module, state: Mapping[str, Any]) -> None:
    """
    Put parameters and buffers back in place, and extra state by ``set_extra_state``.

    :param module: whose state it was
    :param state: a copy of what :func:`state_of` or ``state_dict()`` gave
    """
    with th.no_grad():
        for name, value in state_of(module).items():
            if name in state and isinstance(value, th.Tensor) and not name.endswith(EXTRA_STATE):
                if value.shape != state[name].shape:  # a buffer as large as the batch
                    value.resize_(state[name].shape)
                value.copy_(state[name])
    for name, child in module.named_modules():
        key = f"{name}.{EXTRA_STATE}" if name else EXTRA_STATE
        if key in state:
            child.set_extra_state(copied(state[key]))


def is_floating_tensor(value: object) -> bool:
    """Whether it can be other than finite."""
    return isinstance(value, th.Tensor) and value.is_floating_point()
