"""
The activations within a policy: which they are, and how what they put out is laid out by unit.
"""

from __future__ import annotations

from typing import Any

import torch as th
from torch import nn

from sb3_stable_ppo.probes.layers import Layer

SATURATING = (nn.Tanh, nn.Hardtanh, nn.Softsign, nn.Sigmoid, nn.Hardsigmoid, nn.LogSigmoid)
"""Activations for which the sign of the output says nothing of whether a unit works."""
LEAKY = (nn.LeakyReLU, nn.PReLU, nn.RReLU)
"""Activations whose units still learn where they are never positive: such a unit is linear, not dead."""


def is_activation(module: nn.Module) -> bool:
    """
    Whether a module is one of torch's activations, or says that it is one by ``outputs_per_unit``. (torch's attention
    is defined in the same file, but is none.)
    """
    in_activations_file = type(module).__module__ == "torch.nn.modules.activation"
    is_torchs = in_activations_file and not isinstance(module, nn.MultiheadAttention)
    return is_torchs or hasattr(module, "outputs_per_unit")


def outputs_per_unit(module: nn.Module) -> int:
    """
    :param module: an activation
    :return: how many outputs it has for each unit before it: what it says itself, as our ``CReLU`` does, else 1
    """
    return int(getattr(module, "outputs_per_unit", 1))


def activation_modules(policy: nn.Module) -> dict[str, nn.Module]:
    """
    The activations within a policy: torch's own, and those of the class that the policy was built with
    (``activation_fn``), which may be a user's. One within another, such as the sigmoid of a user's Swish, is a part.

    :param policy: any policy
    :return: by their paths, as in the state dict
    """
    given = getattr(policy, "activation_fn", None)
    own: tuple[type, ...] = (given,) if isinstance(given, type) else ()
    found: dict[str, nn.Module] = {}
    for path, module in policy.named_modules():  # parents come before their children
        within = any(path.startswith(f"{other}.") for other in found)
        is_own = isinstance(module, own)
        if not within and (is_activation(module) or (is_own and not _has_layers(module))):
            found[path] = module
    return found


def is_readable(output: Any) -> bool:
    """Whether what a module has put out is a batch of units: one plain tensor of two dimensions at least."""
    return isinstance(output, th.Tensor) and not output.is_nested and output.dim() >= 2


def units_second(activation: th.Tensor, layer: Layer, per_unit: int = 1) -> th.Tensor:
    """
    An activation with its units in dimension 1, where the metrics look for them.

    A linear layer puts its units into the last dimension, so that one that is applied to tokens gives (batch, tokens,
    units). A convolution puts them into dimension 1. The size of the other of the two tells where a permutation
    between layer and activation has moved them.

    :param activation: of any layout
    :param layer: that the activation stands behind
    :param per_unit: outputs of the activation for each of the layer's units
    :return: shape (batch, units, ...)
    """
    usual, other = (-1, 1) if layer.kind == "fc" else (1, -1)
    outputs = layer.units * per_unit
    is_moved = activation.shape[usual] != outputs and activation.shape[other] == outputs
    return activation.movedim(other if is_moved else usual, 1)


def _has_layers(module: nn.Module) -> bool:
    """``nn.Sequential(norm, nn.ReLU())`` may serve as an activation; not every ``nn.Sequential`` then is one."""
    return any(isinstance(child, (nn.Conv2d, nn.Linear)) for child in module.modules())
