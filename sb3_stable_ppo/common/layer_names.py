"""
What the name of a layer tells.
"""

from __future__ import annotations


def is_critic_layer(layer: str) -> bool:
    """
    Whether a layer serves the critic alone. A critic that is flat, for want of rewards that differ, is no collapse.

    :param layer: its name, as probes give it
    """
    return layer.startswith(("vf.", "critic."))
