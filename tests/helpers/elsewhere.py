"""Tensors on a device that is none: they compute on the CPU, but mix with no tensor of the CPU, and have no float64."""

from __future__ import annotations

from typing import Any

import torch as th
from torch.utils._pytree import tree_map_only


class Elsewhere(th.Tensor):
    """
    A tensor as on MPS: mixed with one of the CPU, or asked for float64, it raises an error.

    :param values: on the CPU
    """

    values: th.Tensor

    @staticmethod
    def __new__(cls, values: th.Tensor) -> Elsewhere:
        found: Elsewhere = th.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, values.shape, dtype=values.dtype, device="meta"
        )
        found.values = values
        return found

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if any(not isinstance(each, Elsewhere) and each.dim() for each in args if isinstance(each, th.Tensor)):
            raise RuntimeError(f"{func}: all tensors have to be on the same device")
        to_cpu = str(kwargs.get("device")) == "cpu"
        if "device" in kwargs:
            kwargs["device"] = "cpu"
        found = func(*tree_map_only(Elsewhere, lambda each: each.values, args), **kwargs)
        return found if to_cpu else tree_map_only(th.Tensor, _elsewhere, found)


def _elsewhere(values: th.Tensor) -> Elsewhere:
    if values.dtype == th.float64:
        raise TypeError("The device has no float64.")
    return Elsewhere(values)
