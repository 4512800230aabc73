"""
The table at the top of a comparison: a row for each run, or for each group of seeds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from sb3_stable_ppo.common.layer_names import is_critic_layer
from sb3_stable_ppo.health.thresholds import VERDICTS
from sb3_stable_ppo.report.comparison import Group, interval_of
from sb3_stable_ppo.report.verdict import Verdict
from sb3_stable_ppo.runs.data import RunData
from sb3_stable_ppo.runs.series import EVALUATION, RETURN, finite

UNKNOWN = "-"
UNDONE = "guards/undone_updates"
HEADS = (
    "run",
    "algorithm",
    "env",
    "steps",
    "final return",
    "fewest live units",
    "undone updates",
    "verdict",
)


class Row(NamedTuple):
    """
    :param cells: one for each of ``HEADS``
    :param state: of the worst verdict: ``yes``, ``no`` or ``open``
    """

    cells: tuple[str, ...]
    state: str


def summary_of(groups: Sequence[Group], verdicts: Sequence[Sequence[Verdict]]) -> list[Row]:
    """
    :param groups: of runs
    :param verdicts: on the runs of each group, in their order
    """
    return [_row(group, found) for group, found in zip(groups, verdicts, strict=True)]


def _row(group: Group, verdicts: Sequence[Verdict]) -> Row:
    runs = group.runs
    order = {word: place for place, word in enumerate(VERDICTS)}
    ranked = sorted(verdicts, key=lambda verdict: order.get(verdict.word, -1))
    words = Counter(verdict.word for verdict in ranked)
    cells = (
        group.name,
        _fact(runs, "algo"),
        _fact(runs, "env"),
        _range([run.steps for run in runs]),
        final_return(runs),
        fewest_live(runs),
        _range([count for run in runs if (count := undone_updates(run)) is not None]),
        ", ".join(f"{word} ({count})" if len(runs) > 1 else word for word, count in words.items()),
    )
    return Row(cells, ranked[0].state)


def final_return(runs: Sequence[RunData]) -> str:
    """
    The mean return of the last 100 episodes, as SB3 logs it; where there is none on record, the last evaluation. Over
    seeds their mean, with its bootstrap interval.

    :param runs: seeds of each other, or one
    """
    for name in (RETURN, EVALUATION):
        found = [series for run in runs if (series := finite(run.curves.get(name))) is not None]
        if found:
            lasts = np.array([series.values[-1] for series in found])
            low, high = interval_of(lasts)
            told = f"{lasts.mean():.4g}" + (f" ({low:.4g} to {high:.4g})" if len(found) > 1 else "")
            return told if name == RETURN else f"{told}, evaluated"
    return UNKNOWN


def fewest_live(runs: Sequence[RunData]) -> str:
    """
    The layer with the smallest share of live units at the end, among those that the actions depend on.

    :param runs: seeds of each other, of which the worst counts, or one
    """
    found = [
        (layer["live"] / layer["units"], f"{name} {layer['live']} of {layer['units']}")
        for run in runs
        for line in run.health[-1:]
        for name, layer in line["layers"].items()
        if not is_critic_layer(name) and _is_count(layer.get("live")) and _is_count(layer.get("units"))
        if layer["units"] > 0
    ]
    return min(found)[1] if found else UNKNOWN


def undone_updates(run: RunData) -> int | None:
    """
    How many updates the guards undid; None of an algorithm that does not count them.

    :param run: whose
    """
    series = finite(run.curves.get(UNDONE))
    if series is None:
        return None
    changes = np.diff(series.values, prepend=0.0)  # a resumed run may count anew
    return int(changes[changes > 0].sum())


def _fact(runs: Sequence[RunData], name: str) -> str:
    return ", ".join(dict.fromkeys(str(run.facts[name]) for run in runs if run.facts.get(name))) or UNKNOWN


def _range(counts: Sequence[int]) -> str:
    if not counts:
        return UNKNOWN
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _is_count(value: Any) -> bool:
    return isinstance(value, int)
