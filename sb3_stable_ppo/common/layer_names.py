"""
What the name of a layer tells.
"""

from __future__ import annotations

CONV, ACTOR, CRITIC = "conv", "actor", "critic"
"""Kinds of layers: a convolution, a hidden layer that the actor uses (also a shared one), one of the critic alone."""


def is_critic_layer(layer: str) -> bool:
    """
    Whether a layer serves the critic alone. A critic that is flat, for want of rewards that differ, is no collapse.

    :param layer: its name, as probes give it
    """
    return layer.startswith(("vf.", "critic."))


def layer_kind(layer: str) -> str:
    """
    >>> [layer_kind(name) for name in ("conv1", "vf.conv2", "fc1", "pi.fc1", "vf.fc1")]
    ['conv', 'conv', 'actor', 'actor', 'critic']

    :param layer: its name, as probes give it
    :return: ``CONV``, ``ACTOR`` or ``CRITIC``
    """
    if is_conv_layer(layer):
        return CONV
    return CRITIC if is_critic_layer(layer) else ACTOR


def is_conv_layer(layer: str) -> bool:
    """
    Whether a layer is a convolution.

    :param layer: its name, as probes give it
    """
    return layer.rpartition(".")[2].startswith("conv")
