"""
Several runs side by side: which differ by their seed alone, and what their curves have in common.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sb3_stable_ppo.runs.data import RunData
from sb3_stable_ppo.runs.series import Floats, Series

GRID, RESAMPLED = 200, 1000
CONFIDENCE = 0.95


class Group(NamedTuple):
    """Runs of the same algorithm, env and settings: seeds."""

    name: str
    runs: list[RunData]


def grouped(runs: Sequence[RunData], labels: Sequence[str]) -> list[Group]:
    """
    Put seeds together, in the order of the runs. A run of which nothing tells algorithm, env and settings stands alone.

    :param runs: of any kind
    :param labels: their names; a group of several is called by all of them
    """
    found: dict[str, Group] = {}
    for run, label in zip(runs, labels, strict=True):
        group = found.setdefault(_identity(run), Group("", []))
        name = f"{group.name}, {label}" if group.runs else label
        found[_identity(run)] = Group(name, [*group.runs, run])
    return list(found.values())


def _identity(run: RunData) -> str:
    if not run.settings or not run.facts.get("algo") or not run.facts.get("env"):
        return str(run.folder.resolve())
    facts = [run.facts.get(name) for name in ("algo", "env", "n_timesteps")]
    return json.dumps([facts, run.settings], sort_keys=True, default=str)


def band(found: Sequence[Series]) -> tuple[Floats, Floats, Floats, Floats]:
    """
    Mean over runs, and :func:`interval_of` it, over the steps that all of them have.

    :param found: two or more
    :return: steps, mean, low, high; empty where they have no steps in common
    """
    start = max(series.steps[0] for series in found)
    end = min(series.steps[-1] for series in found)
    if end <= start:
        nothing = np.empty(0)
        return nothing, nothing, nothing, nothing
    steps = np.linspace(start, end, GRID)
    values = np.array([np.interp(steps, series.steps, series.values) for series in found])
    low, high = interval_of(values)
    return steps, values.mean(axis=0), low, high


def interval_of(values: Floats) -> tuple[Floats, Floats]:
    """
    The 95% bootstrap interval (percentiles, seeded) of a mean over runs.

    :param values: of the runs, shape (runs, ...)
    :return: its low and its high end, shape (...)
    """
    choices = np.random.default_rng(0).integers(len(values), size=(RESAMPLED, len(values)))
    means = values[choices].mean(axis=1)
    margin = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [margin, 1 - margin], axis=0)
    return low, high
