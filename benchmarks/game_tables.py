"""
The table of Atari games, from the lines that suite.py has recorded of the settings in game_settings.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from command import markdown
from game_settings import BINS, GAMES, SETTINGS
from intervals import with_each
from record import finished
from vector_tables import mean_over_run

NAME = "suite_games"
LAST = BINS // 10
CONVS = ("conv1", "conv2", "conv3")
Row = Mapping[str, Any]


def games_table() -> str:
    """A row for each settings of a game and length of its runs, over seeds."""
    runs: dict[tuple[int, int, int], list[Row]] = {}
    names = list(SETTINGS)
    for row in sorted(finished(NAME), key=lambda row: int(row["cell"]["seed"])):
        name, steps = row["cell"]["settings"], row["cell"]["steps"]
        runs.setdefault((GAMES.index(name.split(", ")[0]), steps, names.index(name)), []).append(row)
    lines = [
        [
            *names[index].split(", "),
            f"{steps:,}",
            *(with_each([value(row) for row in rows], 1) for value in (mean_over_run, last_tenth, _final)),
            " / ".join(_live(rows, conv) for conv in CONVS),
            f"{mean(row['minutes'] for row in rows):.0f}",
        ]
        for (_, steps, index), rows in sorted(runs.items())
    ]
    heads = ["game", "numbers", "policy", "steps", "score over the run", "over its last tenth", "20 games at the end"]
    return markdown([*heads, "live channels", "minutes"], lines)


def last_tenth(row: Row) -> float:
    """
    The mean score of the games that ended in the last tenth of a run, or of its last part in which one ended.

    :param row: a run
    """
    steps = row["cell"]["steps"]
    points = [point for point in row["curve"] if point[0] > steps * (1 - LAST / BINS)] or row["curve"][-1:]
    return float(sum(value * count for _, value, count in points) / sum(count for *_, count in points))


def _final(row: Row) -> float:
    return float(row["final"])


def _live(rows: Sequence[Row], conv: str) -> str:
    return f"{mean(row['live'][conv][0] / row['live'][conv][1] for row in rows):.0%}"
