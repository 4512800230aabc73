"""
The time axis that all charts of a page share, and the stretch of it that a measurement stands for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sb3_stable_ppo.runs.data import RunData
from sb3_stable_ppo.runs.series import Floats

FAR = 10
"""A record that begins so many of its usual distances after step 0 is of a run that was resumed."""


class Span(NamedTuple):
    """The first and the last step of an axis."""

    start: float
    end: float


def span_of(runs: Sequence[RunData]) -> Span:
    """
    From where the earliest of the runs begins to where the last one ends.

    :param runs: one or more
    """
    starts = []
    for run in runs:
        steps = [curve.steps for curve in run.curves.values()]
        steps.append(np.array([line["step"] for line in run.health], dtype=np.float64))
        starts.append(begin_of(np.unique(np.concatenate(steps))))
    start = min(starts)
    return Span(start, max(start + 1.0, *(float(run.steps) for run in runs)))


def begin_of(steps: Floats) -> float:
    """
    Where a record begins: at step 0; of a resumed run, at its first step.

    >>> begin_of(np.array([1024.0, 2048.0, 3072.0]))
    0.0
    >>> begin_of(np.array([500000.0, 501024.0, 502048.0]))
    500000.0

    :param steps: ascending
    """
    is_far = len(steps) > 1 and steps[0] > FAR * np.median(np.diff(steps))
    return float(steps[0]) if is_far else 0.0


def edges_of(steps: Floats, span: Span) -> Floats:
    """
    The bounds of measurements on an axis: half way between neighbours, and at the ends of the record. (From centres
    plotly would go half a distance beyond both ends, before step 0 too.)

    >>> edges_of(np.array([20.0, 60.0, 100.0]), Span(0.0, 110.0)).tolist()
    [0.0, 40.0, 80.0, 110.0]

    :param steps: of the measurements, ascending, one or more
    :param span: of the run
    :return: one more than there are measurements
    """
    middles = (steps[:-1] + steps[1:]) / 2
    return np.array([max(span.start, begin_of(steps)), *middles, max(span.end, steps[-1])])
