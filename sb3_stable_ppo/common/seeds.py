"""
Which seeds a user means: a number of seeds, ranges, or a list. ``train`` and ``tune`` read them alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from sb3_stable_ppo.common.errors import UsageError

MAX_SEEDS = 1000
"""Seeds of one call."""
FORMS = "give a number of seeds such as 5, or seeds and ranges of seeds such as 0-9 or 1,3,5"


def is_count(seeds: int | str | Iterable[int]) -> bool:
    """
    Whether a user gives a number of seeds, not the seeds themselves.

    :param seeds: what the user wrote
    """
    return isinstance(seeds, int) or (isinstance(seeds, str) and seeds.strip().isdecimal())


def parse_seeds(seeds: int | str | Iterable[int], first: int = 0) -> list[int]:
    """
    Read seeds. A number alone says how many.

    >>> parse_seeds("3"), parse_seeds(2, first=7), parse_seeds("0-2,7"), parse_seeds("5-5"), parse_seeds([5])
    ([0, 1, 2], [7, 8], [0, 1, 2, 7], [5], [5])

    :param seeds: how many (``5``), or which: ``0-9``, ``1,3,5`` or numbers
    :param first: the first of a number of seeds
    :raises UsageError: if it is none of that, names a seed twice or too many, or ``first`` is given beside seeds
    """
    what = f"seeds (--seeds) {seeds!r}"
    if isinstance(seeds, bool) or not isinstance(seeds, (int, float, str, Iterable)):
        raise UsageError(f"{what}: {FORMS}.")
    if is_count(seeds):
        return _counted(int(seeds), first, what)  # type: ignore[arg-type]  # is_count has looked
    if first:
        raise UsageError(f"seed (--seed) {first} is the first of a number of seeds, such as 5; {what} names them all.")
    text = seeds if isinstance(seeds, str) else ",".join(map(str, seeds))  # type: ignore[arg-type]
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part.strip())
        if match is None or (match[2] and int(match[2]) < int(match[1])):
            raise UsageError(f"{what}: {FORMS}.")
        more = range(int(match[1]), int(match[2] or match[1]) + 1)
        if len(found) + len(more) > MAX_SEEDS:
            raise UsageError(f"{what}: no more than {MAX_SEEDS} at once.")
        found += more
    if len(set(found)) < len(found):
        raise UsageError(f"{what}: a seed stands there twice.")
    return found


def _counted(count: int, first: int, what: str) -> list[int]:
    if count < 1:
        raise UsageError(f"{what}: {FORMS}; 0-0 is the seed 0 alone.")
    if count > MAX_SEEDS:
        raise UsageError(f"{what}: no more than {MAX_SEEDS} at once.")
    return list(range(first, first + count))
