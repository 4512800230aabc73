"""
What a check of a run is.
"""

from __future__ import annotations

from typing import NamedTuple

from sb3_stable_ppo.runs.series import Floats

YES, NO, OPEN = "yes", "no", "open"


class Check(NamedTuple):
    """
    :param name: what is expected
    :param state: ``yes``, ``no`` or ``open``
    :param text: the figure it is judged by
    :param meaning: what it means that it is not as expected
    """

    name: str
    state: str
    text: str
    meaning: str = ""


def last_tenth(values: Floats) -> Floats:
    """
    By which a run's end is judged.

    :param values: of the whole run
    """
    return values[-max(len(values) // 10, 1) :]
