"""The comparison of models."""

from __future__ import annotations

from typing import Any

import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm


def assert_same_weights(first: BaseAlgorithm, second: BaseAlgorithm) -> None:
    """Weights, buffers and the state of all optimizers, bit for bit."""
    assert_same(first.get_parameters(), second.get_parameters(), "")


def assert_same(first: Any, second: Any, name: str) -> None:
    """The same tensors and numbers in the same nested dicts and lists."""
    if isinstance(first, dict):
        assert first.keys() == second.keys(), name
        for key in first:
            assert_same(first[key], second[key], f"{name}.{key}")
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), name
        for index, (one, other) in enumerate(zip(first, second, strict=True)):
            assert_same(one, other, f"{name}[{index}]")
    elif isinstance(first, (th.Tensor, float)):
        assert th.equal(th.as_tensor(first), th.as_tensor(second)), name
    else:
        assert first == second, name
