"""
Several runs side by side: which differ by their seed alone, and what their curves have in common.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sb3_stable_ppo.run_data import Floats, RunData, Series

GRID, RESAMPLED = 200, 1000
CONFIDENCE = 0.95


class Group(NamedTuple):
    """Runs of the same algorithm, env and settings: seeds."""

    name: str
    runs: list[RunData]


def grouped(runs: Sequence[RunData]) -> list[Group]:
    """
    Put seeds together, in the order of the runs. A run of which nothing tells its settings stands alone.

    :param runs: of any kind
    """
    found: dict[str, list[RunData]] = {}
    for run in runs:
        found.setdefault(_identity(run), []).append(run)
    algos = [str(members[0].facts.get("algo") or "") for members in found.values()]
    groups = []
    for algo, members in zip(algos, found.values(), strict=True):
        of_its_kind = algo and algos.count(algo) == 1
        name = algo if of_its_kind else " ".join(part for part in (algo, f"({members[0].name})") if part)
        groups.append(Group(name, members))
    names = [group.name for group in groups]
    return [
        group if names.count(group.name) == 1 else group._replace(name=f"{group.name} {number}")
        for number, group in enumerate(groups, start=1)
    ]


def _identity(run: RunData) -> str:
    if not run.settings:
        return str(run.folder.resolve())
    facts = [run.facts.get(name) for name in ("algo", "env", "n_timesteps")]
    return json.dumps([facts, run.settings], sort_keys=True, default=str)


def band(found: Sequence[Series]) -> tuple[Floats, Floats, Floats, Floats]:
    """
    Mean over runs, and a 95% bootstrap interval of it (percentiles, seeded), over the steps that all of them have.

    :param found: two or more
    :return: steps, mean, low, high
    """
    start = max(series.steps[0] for series in found)
    end = max(min(series.steps[-1] for series in found), start)
    steps = np.linspace(start, end, GRID)
    values = np.array([np.interp(steps, series.steps, series.values) for series in found])
    choices = np.random.default_rng(0).integers(len(found), size=(RESAMPLED, len(found)))
    means = values[choices].mean(axis=1)
    margin = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [margin, 1 - margin], axis=0)
    return steps, values.mean(axis=0), low, high
