"""
All random numbers of a process that SB3 draws from.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces

DEVICES = ("cuda", "xpu")
"""Backends of torch with a generator for each device."""


def random_state(action_space: spaces.Space[Any]) -> dict[str, Any]:
    """
    The states of Python's, NumPy's and torch's global generators, those of each device in use, and of a space.

    :param action_space: the model's, which draws the actions of a warm-up and of DQN's exploration
    """
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),  # noqa: NPY002  # SB3 draws from it
        "torch": th.get_rng_state(),
        "devices": {name: getattr(th, name).get_rng_state_all() for name in DEVICES if _is_in_use(name)},
        "action_space": [space._np_random and space._np_random.bit_generator.state for space in _leaves(action_space)],
    }


def set_random_state(state: dict[str, Any], action_space: spaces.Space[Any]) -> None:
    """
    Put all back.

    :param state: of :func:`random_state`
    :param action_space: the same
    """
    for space, found in zip(_leaves(action_space), state["action_space"], strict=True):
        if found is None:
            space._np_random = None  # type: ignore[assignment]  # as a space is that has drawn nothing
        else:
            space.np_random.bit_generator.state = found
    for name, states in state["devices"].items():
        module = getattr(th, name)
        if module.is_available() and module.device_count() == len(states):
            module.set_rng_state_all([each.cpu() for each in states])
        else:
            warnings.warn(
                f"The checkpoint has the random states of {len(states)} {name} devices, which this machine lacks: the "
                "run continues, not bit for bit.",
                stacklevel=2,
            )
    th.set_rng_state(state["torch"].cpu())
    np.random.set_state(state["numpy"])  # noqa: NPY002
    random.setstate(state["python"])


def _is_in_use(name: str) -> bool:
    module = getattr(th, name, None)
    return module is not None and bool(module.is_available()) and bool(module.is_initialized())


def _leaves(space: spaces.Space[Any]) -> Iterator[spaces.Space[Any]]:
    """The space and those within: each has a generator of its own."""
    yield space
    within: Any = getattr(space, "spaces", ())
    for child in within.values() if isinstance(within, dict) else within:
        yield from _leaves(child)
