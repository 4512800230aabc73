"""
Where a hyperparameter goes: beside the others, into ``policy_kwargs`` or into ``guards``. Pure: names in, errors out.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, NamedTuple

import yaml
from torch import nn

from sb3_stable_ppo.common.checks import did_you_mean
from sb3_stable_ppo.common.errors import UsageError

FLAG = "--hyperparams (-params)"
"""What errors call the hyperparameters of the command line."""


class Place(NamedTuple):
    """
    A mapping of a configuration.

    :param name: of the key that holds it; empty: the entry itself
    :param known: the keys that it can have
    :param complaint: how an error about an unknown key begins; empty: whoever takes the mapping has the error
    """

    name: str
    known: Set[str]
    complaint: str


def check_place(
    given: Mapping[str, Any], place: Place, places: tuple[Place, ...], source: str, overrides: Mapping[str, Any]
) -> None:
    """
    Check the keys of a mapping.

    :param given: the mapping
    :param place: what it is
    :param places: all that there are; what is unknown here may go into another
    :param source: where it comes from, for the error
    :param overrides: what the command line gave of it
    :raises UsageError: naming the first key that does not go here, and where it goes
    """
    for key, value in given.items():
        if key in place.known:
            continue
        others = [other for other in places if other is not place]
        where = FLAG if key in overrides else source
        right = next((other for other in others if key in other.known), None)
        if right is not None:
            raise UsageError(f"{where}: {_goes_into(key, value, place, right, key in overrides)}")
        if place.complaint:
            hint = did_you_mean(key, place.known) or _elsewhere(key, others)
            raise UsageError(f"{where}: {place.complaint} {key!r}{hint}. Known are {', '.join(sorted(place.known))}.")


def _goes_into(key: str, value: Any, place: Place, right: Place, is_flag: bool) -> str:
    if not right.name:
        return f"{key} goes beside {place.name}, not into it."
    if is_flag:
        return f'{key} goes into {right.name}: -params "{right.name}:dict({key}={_python(value)})".'
    return f"{key} goes into {right.name}: {yaml.safe_dump({key: value}, default_flow_style=True).strip()}."


def _python(value: Any) -> str:
    """A value as ``-params`` takes it."""
    is_module = isinstance(value, type) and getattr(nn, value.__name__, None) is value
    return f"nn.{value.__name__}" if is_module else repr(value)


def _elsewhere(key: str, others: list[Place]) -> str:
    """The nearest key of another place, as :func:`did_you_mean` has it."""
    for other in others:
        hint = did_you_mean(key, other.known)
        if hint:
            return hint.replace("?)", f", {f'in {other.name}' if other.name else 'beside it'}?)")
    return ""
