"""
Checks of what users write. Each error names the option, the value and what is allowed.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Any

MOST_SHOWN = 100
"""Characters of what a user wrote; a class given as a callback is called by SB3 with all that it knows."""


def shown(value: Any) -> str:
    """
    What a user wrote, as it stands in an error.

    :param value: anything
    """
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


def unknown(what: str, value: Any, choices: Iterable[Any], also: str = "") -> str:
    """
    The sentence about a word that is not understood.

    >>> unknown("norm", "bach", ["batch", "layer"])
    "Unknown norm 'bach': choose one of batch, layer."

    :param what: the option's name
    :param value: what the user wrote
    :param choices: the words that are understood
    :param also: what else can be given, in words
    """
    return f"Unknown {what} {shown(value)}: choose one of {', '.join(map(str, choices))}{also}."


def one_of(value: Any, choices: Iterable[Any], what: str, also: str = "") -> str:
    """
    Return ``value`` if it is one of ``choices``.

    :param value: what the user wrote
    :param choices: the words that are understood
    :param what: the option's name, for the error
    :param also: what else can be given, for the error
    :raises ValueError: the sentence of :func:`unknown`
    """
    choices = list(choices)
    if value not in choices:
        raise ValueError(unknown(what, value, choices, also))
    return str(value)


def did_you_mean(word: Any, known: Iterable[str]) -> str:
    """
    A hint to the nearest word, to be put behind the word itself.

    >>> did_you_mean("bach", ["batch", "layer"]), did_you_mean("xyz", ["batch", "layer"])
    (' (did you mean batch?)', '')

    :param word: what the user wrote
    :param known: the words that are understood
    """
    matches = difflib.get_close_matches(str(word), list(known), n=1)
    return f" (did you mean {matches[0]}?)" if matches else ""


def check_options(given: Iterable[str], known: Iterable[str], owner: str, where: str) -> None:
    """
    Check the names of options.

    :param given: the names that the user wrote
    :param known: the names that are understood
    :param owner: whose options they are
    :param where: the argument that they stand in
    :raises ValueError: for the first that is not known, with the nearest that is, and all of them
    """
    names = sorted(known)
    for name in given:
        if name not in names:
            hint = did_you_mean(name, names)
            raise ValueError(f"{owner} has no option {name!r}{hint}. Known in {where} are {', '.join(names)}.")


def number(value: Any, what: str, low: float = 0.0, high: float = math.inf, *, may_be_infinite: bool = False) -> float:
    """
    Return ``value`` as a number if it lies within bounds. ``"1e-4"`` is a number too: YAML 1.1 reads it as a string.

    :param value: what the user wrote
    :param what: the option's name, for the error
    :param low: the least value
    :param high: the largest value
    :param may_be_infinite: whether infinity is a number here
    :raises ValueError: naming the option, the value and the bounds
    """
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not low <= found <= high or (math.isinf(found) and not may_be_infinite):
        bounds = f"of at least {low:g}" if math.isinf(high) else f"from {low:g} to {high:g}"
        if math.isinf(low):
            bounds = "that is finite"
        if may_be_infinite:
            bounds += ", or inf"
        raise ValueError(f"{what} must be a number {bounds}, not {shown(value)}.")
    return found


def whole_number(value: Any, what: str, least: int = 0, also: str = "") -> int:
    """
    Return ``value`` as a whole number.

    :param value: what the user wrote; ``1e3`` and ``"1e3"`` are whole numbers too
    :param what: the option's name, for the error
    :param least: the least value
    :param also: what else can be given, for the error
    :raises ValueError: naming the option, the value and the least
    """
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not (found.is_integer() and found >= least):
        raise ValueError(f"{what} must be a whole number of at least {least}{also}, not {shown(value)}.")
    return int(found)
