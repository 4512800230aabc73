"""
Checks of what users write: each names the option, the value and the choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def one_of(value: Any, choices: Sequence[str], what: str) -> str:
    """
    Return ``value`` if it is one of ``choices``.

    :param value: what the user wrote
    :param choices: the words that are understood
    :param what: the option's name, for the error
    :raises ValueError: naming the option, the value and the choices
    """
    if value not in choices:
        raise ValueError(f"Unknown {what} {value!r}: choose one of {', '.join(choices)}.")
    return str(value)


def number_in(value: Any, low: float, high: float, what: str) -> float:
    """
    Return ``value`` as a number if it lies within bounds.

    :param value: what the user wrote
    :param low: the least value
    :param high: the largest value
    :param what: the option's name, for the error
    :raises ValueError: naming the option, the value and the bounds
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ValueError(f"{what} must be a number from {low:g} to {high:g}, not {value!r}.")
    return float(value)
