"""
The hidden layers that a user asks for, in SB3's form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sb3_stable_ppo.common.checks import did_you_mean, shown, whole_number

NetArch = list[int] | dict[str, list[int]]
NETWORKS = ("pi", "vf")
FORM = "net_arch must be the widths of the hidden layers, such as [64, 64], or dict(pi=[64], vf=[64, 64])"


def checked_net_arch(given: Any) -> NetArch:
    """
    The same, checked: SB3 passes over a key that it does not know, and the network has no hidden layer then.

    >>> checked_net_arch({"pi": [32], "vf": ["64"]})
    {'pi': [32], 'vf': [64]}

    :param given: what the user wrote
    :raises ValueError: for anything but widths, or widths by ``pi`` and ``vf``
    """
    if isinstance(given, (list, tuple)) and len(given) == 1 and isinstance(given[0], Mapping):  # SB3's form before 1.8
        given = given[0]
    if not isinstance(given, Mapping):
        return _widths(given, "net_arch")
    for key in given:
        if key not in NETWORKS:
            hint = did_you_mean(key, NETWORKS)
            raise ValueError(f"net_arch has no network {shown(key)}{hint}: pi is the actor's, vf the critic's.")
    return {key: _widths(widths, f"net_arch['{key}']") for key, widths in given.items()}


def _widths(given: Any, what: str) -> list[int]:
    if not isinstance(given, (list, tuple)):
        raise ValueError(f"{FORM}, not {shown(given)}.")
    return [whole_number(width, f"A width in {what}", 1) for width in given]
