"""
Copies of nested tensors, and whether all their values are finite.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch as th


def copied(value: Any, room: Any = None) -> Any:
    """
    A deep copy.

    :param value: of tensors, dicts, lists and plain values
    :param room: an earlier copy, whose tensors are written over where they fit
    """
    if isinstance(value, th.Tensor):
        fits = isinstance(room, th.Tensor) and (room.shape, room.dtype, room.device) == (
            value.shape,
            value.dtype,
            value.device,
        )
        return room.copy_(value.detach()) if fits else value.detach().clone()
    if isinstance(value, dict):
        rooms = room if isinstance(room, dict) else {}
        return {key: copied(child, rooms.get(key)) for key, child in value.items()}
    if isinstance(value, list):
        places = room if isinstance(room, list) and len(room) == len(value) else [None] * len(value)
        return [copied(child, place) for child, place in zip(value, places, strict=True)]
    return copy.deepcopy(value)


def first_nonfinite(tensors: Mapping[str, th.Tensor]) -> str | None:
    """
    The first tensor that is not finite, in words.

    :param tensors: by name
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(th.isfinite(tensor).all()):
            return f"{name}: {int((~th.isfinite(tensor)).sum())} of {tensor.numel()} values are not finite"
    return None


def all_finite(tensors: list[th.Tensor]) -> bool:
    """
    Whether all values of all tensors are finite: one look at the sum of their sums, a closer one if that is not. Each
    device has a sum of its own (Adam keeps its count of steps on the CPU, wherever the weights are).
    """
    # On the CPU, where nobody waits for a number, Python adds faster than torch
    total = sum([tensor.sum().item() for tensor in tensors if tensor.is_cpu])
    for device in {tensor.device for tensor in tensors if not tensor.is_cpu}:
        sums = [tensor.sum(dtype=th.float32) for tensor in tensors if tensor.device == device]
        total += th.stack(sums).sum().item()
    return math.isfinite(total) or all(bool(th.isfinite(tensor).all()) for tensor in tensors)


def is_broken_distribution(error: Exception) -> bool:
    """
    Whether an error is what torch raises when NaN in a network's output reaches a distribution: a ValueError of its
    validation, or, where ``torch.compile`` has switched the validation off for the process, a RuntimeError of sampling.

    :param error: that a forward pass has raised
    """
    text = str(error)
    return "to satisfy the constraint" in text or "probability tensor contains either" in text
