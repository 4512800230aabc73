"""
The activations of our networks: a word, as YAML has it, or a module class, as SB3's ``activation_fn`` has it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch as th
from torch import nn

from sb3_stable_ppo.common.checks import one_of
from sb3_stable_ppo.policies.crelu import CReLU

ActivationFn = Callable[[], nn.Module]
"""A module class such as ``nn.ReLU``, or anything that makes a new module at each call."""

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "leaky_relu": nn.LeakyReLU,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "crelu": CReLU,
}
WORDS: dict[object, str] = {cls: word for word, cls in ACTIVATIONS.items()}


def as_activation(given: str | ActivationFn, name: str = "activation") -> str | ActivationFn:
    """
    An activation as its word, where it has one, otherwise as it was given.

    >>> as_activation(nn.ReLU), as_activation("relu"), as_activation(nn.Mish)
    ('relu', 'relu', <class 'torch.nn.modules.activation.Mish'>)

    :param given: a word of ``ACTIVATIONS``, a module class, or a function that makes a module
    :param name: the argument's name, for the error
    :raises ValueError: for anything else
    """
    if isinstance(given, str):
        return one_of(given, tuple(ACTIVATIONS), name, also=", or give a module class such as nn.ReLU")
    if isinstance(given, nn.Module):
        raise ValueError(f"{name} must be a class such as nn.ReLU, not the module {given}: each layer needs its own.")
    if callable(given) and given in WORDS:
        return WORDS[given]
    if not _makes_modules(given):
        raise ValueError(
            f"{name} must be one of {', '.join(ACTIVATIONS)}, or a module class such as nn.ReLU, not {given!r}."
        )
    return given


def chosen_activation(
    activation: str | ActivationFn | None, activation_fn: str | ActivationFn | None
) -> str | ActivationFn:
    """
    The activation that a user asked for, by our name of the argument or by SB3's.

    :param activation: a word or a class; None: not given
    :param activation_fn: the same, by SB3's name
    :return: ``leaky_relu`` if neither was given
    :raises ValueError: if both were given and differ
    """
    asked = {
        name: as_activation(given, name)
        for name, given in {"activation": activation, "activation_fn": activation_fn}.items()
        if given is not None
    }
    found = list(asked.values()) or ["leaky_relu"]
    if found[0] != found[-1]:
        raise ValueError(
            f"activation={activation!r} and activation_fn={activation_fn!r} differ: they mean the same argument. "
            "Leave one of them out."
        )
    return found[0]


def _makes_modules(given: object) -> bool:
    """Whether it makes modules that put out as many units as they take."""
    try:
        module = given() if callable(given) else None
        units = th.zeros(1, 4)
        return isinstance(module, nn.Module) and module.eval()(units).shape == units.shape
    except (TypeError, NotImplementedError):  # it wants arguments, as torch.relu does, or has no forward
        return False
