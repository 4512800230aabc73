"""
Intervals over seeds, and over seeds and tasks: interquartile means with 95% intervals by stratified bootstrap, and the
probability of improvement (rliable, https://arxiv.org/abs/2108.13264).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import mean
from typing import Any

import numpy as np
from rliable import library, metrics

REPETITIONS, OF_PAIRS, LEAST_SEEDS = 2000, 500, 3
"""Of the bootstrap; of that of a probability of improvement, which takes long. Fewer seeds have no interval."""
Scores = np.ndarray[Any, Any]
"""Of runs and tasks, shape (seeds, tasks)."""


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """
    >>> interval([1.0, 2.0])
    (1.5, 1.5, 1.5)

    :param values: one of each seed
    :return: middle, and the ends of its interval
    """
    scores = np.asarray(values, float)[:, None]
    if len(scores) < LEAST_SEEDS:
        return (float(scores.mean()),) * 3
    return over_tasks(scores)


def over_tasks(scores: Scores) -> tuple[float, float, float]:
    """
    :param scores: normalised, shape (seeds, tasks)
    :return: interquartile mean over all runs, and the ends of its interval
    """
    return _estimated(scores, interquartile_mean, REPETITIONS)


def interquartile_mean(scores: Scores) -> float:
    """
    What ``rliable.metrics.aggregate_iqm`` returns, in 5 microseconds for five runs in place of 136, most of which SciPy
    spends on signatures.

    >>> interquartile_mean(np.array([[0.0, 10.0], [12.0, 100.0]]))
    11.0

    :param scores: of any shape
    :return: the mean without the lowest and the highest quarter, rounded down to whole runs
    """
    ordered = np.sort(scores, axis=None)
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


def improvement(ours: Scores, theirs: Scores) -> tuple[float, float, float]:
    """
    >>> improvement(np.full((3, 2), 2.0), np.full((3, 2), 1.0))
    (1.0, 1.0, 1.0)

    :param ours: shape (seeds, tasks)
    :param theirs: the same tasks
    :return: how probable it is that a run of ours has a higher score than one of theirs, the mean over tasks, and the
        ends of its interval
    """
    return _estimated((ours, theirs), metrics.probability_of_improvement, OF_PAIRS)


def shown(values: Sequence[float]) -> str:
    """In a table's cell."""
    return told(interval(values), 1)


def told(found: tuple[float, float, float], digits: int) -> str:
    """
    >>> told((0.5, 0.25, 0.75), 2)
    '0.50 (0.25 to 0.75)'

    :param found: middle, and the ends of its interval
    :param digits: behind the point
    """
    middle, low, high = (f"{value:.{digits}f}" for value in found)
    return middle if low == high else f"{middle} ({low} to {high})"


def with_each(values: Sequence[float], digits: int = 0) -> str:
    """
    >>> with_each([1.0, 2.0])
    '2 (1, 2)'

    :param values: of one seed each
    :param digits: behind the point
    :return: from :data:`LEAST_SEEDS` on the interquartile mean and its interval; below it the mean and each value
    """
    if len(values) >= LEAST_SEEDS:
        return told(interval(values), digits)
    shown = [f"{value:.{digits}f}" for value in values]
    return f"{mean(values):.{digits}f} ({', '.join(shown)})" if len(shown) > 1 else "".join(shown) or "-"


def _estimated(scores: Any, measure: Callable[..., Any], repetitions: int) -> tuple[float, float, float]:
    given: Mapping[str, Any] = {"": scores}
    with _seeded():
        points, bounds = library.get_interval_estimates(
            given, lambda *samples: np.array([measure(*samples)]), reps=repetitions
        )
    low, high = bounds[""][:, 0]
    return float(points[""][0]), float(low), float(high)


@contextmanager
def _seeded() -> Iterator[None]:
    """rliable draws from NumPy's global generator, whatever it is given."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
