"""
The rows of SB3's log as curves. A row is what one ``dump()`` of the logger wrote.

SB3's EvalCallback dumps in the middle of a rollout: its row takes the figures of the last update with it, to a step at
which nothing was updated, and the row of the rollout then lacks them. Here they come back to where the logger would
have written them without the evaluation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sb3_stable_ppo.runs.series import Series, series


class Row(NamedTuple):
    """
    :param step: environment steps
    :param figures: by SB3's names, without the step's
    """

    step: float
    figures: Mapping[str, float]

    @property
    def is_of_evaluation(self) -> bool:
        """Whether an evaluation wrote it. An algorithm's own row tells the time too, as ``time/fps``."""
        return any(map(_is_evaluated, self.figures)) and not any(name.startswith("time/") for name in self.figures)


def curves_of(rows: Iterable[Row]) -> dict[str, Series]:
    """
    A curve for each name. What an evaluation found stands at its own step. All else in its row belongs to the next row
    that the algorithm wrote, unless that row has a newer value; where no such row follows, it stays.

    :param rows: in the order in which they were written; of one step the last counts
    """
    points: dict[str, list[tuple[float, float]]] = {}
    waiting: list[Row] = []

    def add(step: float, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            points.setdefault(name, []).append((step, value))

    for row in rows:
        if row.is_of_evaluation:
            add(row.step, {name: value for name, value in row.figures.items() if _is_evaluated(name)})
            waiting.append(Row(row.step, {n: value for n, value in row.figures.items() if not _is_evaluated(n)}))
        else:
            carried = {name: value for each in waiting for name, value in each.figures.items()}
            add(row.step, {**carried, **row.figures})
            waiting.clear()
    for row in waiting:
        add(row.step, row.figures)
    return {name: series(found) for name, found in points.items()}


def _is_evaluated(name: str) -> bool:
    return name.startswith("eval/")
