"""
Whether anything but the units of a layer feeds the inputs that it feeds: observations or a frozen layer, as in a
residual sum. Such an input may not be cut off when a unit is reset.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.utils import obs_as_tensor

from sb3_stable_ppo.interventions.unit_graph import (
    LEAST,
    UnitGraph,
    UnitLayer,
    is_layer,
    is_norm,
    tensors_in,
    units_last,
)
from sb3_stable_ppo.probes.activations import ActivationProbe
from sb3_stable_ppo.probes.outputs import outputs_of

ROWS = 8
"""Of random observations: an input that is alike in all of them depends on none."""


def without_shared(policy: Any, graph: UnitGraph) -> UnitGraph:
    """
    Leave the layers alone whose units share an input with something else.

    Each layer in turn puts out zeros, all others put out random numbers, and the observations are random: an input of
    its readers that still varies is fed by something else too. The random numbers are not those of the run.

    :param policy: any of SB3 or sb3-contrib
    :param graph: of :func:`unit_graph`
    """
    observations = obs_as_tensor(_random(policy.observation_space, np.random.default_rng(0)), policy.device)
    shared = {layer.path: _shared(policy, layer, observations) for layer in graph.layers}
    left_alone = {path: f"feeds {reader}, which others feed too" for path, reader in shared.items() if reader}
    layers = tuple(layer for layer in graph.layers if layer.path not in left_alone)
    return UnitGraph(layers, {**graph.left_alone, **left_alone})


def _shared(policy: Any, layer: UnitLayer, observations: Any) -> str | None:
    """The reader with an input that something else feeds too, if there is one."""
    found: list[str] = []
    generator = th.Generator().manual_seed(0)

    def replace(module: Any, args: Any, kwargs: Any, output: th.Tensor) -> th.Tensor:
        if is_norm(module):
            return next(tensors_in([args, kwargs]))
        if module is layer.module:
            return th.zeros_like(output)
        return th.randn(output.shape, generator=generator).to(output)

    handles = [
        module.register_forward_hook(replace, with_kwargs=True)
        for module in policy.modules()
        if is_layer(module) or is_norm(module)
    ]
    for reader in layer.readers:

        def look(module: Any, args: Any, kwargs: Any, path: str = reader.path, columns: Any = reader.columns) -> None:
            inputs = units_last(next(tensors_in([args, kwargs])), module)[..., columns.flatten()].float()
            if bool(((inputs - inputs[:1]).abs() > LEAST).any()):
                found.append(path)

        handles.append(reader.module.register_forward_pre_hook(look, with_kwargs=True))
    try:
        with ActivationProbe(policy).listening():  # in eval mode, without gradients or fused kernels
            outputs_of(policy, observations)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def _random(space: spaces.Space[Any], generator: np.random.Generator) -> Any:
    """Observations as an env gives them, shape (rows, ...)."""
    if isinstance(space, spaces.Dict):
        return {key: _random(part, generator) for key, part in space.spaces.items()}
    shape = (ROWS, *(space.shape or ()))
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return generator.normal(size=shape).astype(space.dtype)
    bound: Any = 256
    if isinstance(space, spaces.Discrete):
        bound = space.n
    elif isinstance(space, spaces.MultiDiscrete):
        bound = space.nvec
    elif isinstance(space, spaces.MultiBinary):
        bound = 2
    return generator.integers(0, bound, size=shape).astype(space.dtype)
