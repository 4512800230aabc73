"""
The tables of networks on vectors, from the lines that suite.py has recorded of the settings in vector_settings.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import mean
from typing import Any

from command import markdown
from record import finished

NAME = "suite_vectors"
Row = Mapping[str, Any]
Runs = dict[str, dict[str, list[Row]]]


def by_network() -> Runs:
    """The runs of each network, and of each of these by its env and whose numbers it has, with the steps."""
    found: Runs = {}
    for row in finished(NAME):
        env, numbers, network = row["cell"]["settings"].split(", ", 2)
        task = f"{env.rpartition('-')[0]}, {numbers}, {row['cell']['steps'] // 1000}k"
        found.setdefault(network, {}).setdefault(task, []).append(row)
    return found


def mean_over_run(row: Row) -> float:
    """
    The mean return over the whole run, each part of it counting alike: how soon it learnt, and how well.

    >>> mean_over_run({"curve": [[10, 1.0, 5], [20, 3.0, 1]]})
    2.0

    :param row: a run
    """
    return mean(value for _, value, _ in row["curve"])


def final(row: Row) -> float:
    """
    The mean return of 20 episodes of the final model, without draws; of a run that broke, that of its last part.

    :param row: a run
    """
    return float(row["final"] if "final" in row else row["curve"][-1][1])


def networks_table(value: Callable[[Row], float]) -> str:
    """
    A row for each network, a column for each env: the mean over seeds, and each seed's.

    :param value: of a run
    """
    runs = by_network()
    tasks = list(dict.fromkeys(task for of_tasks in runs.values() for task in of_tasks))
    lines = [
        [network, *(_cell([value(row) for row in of.get(task, [])]) for task in tasks)] for network, of in runs.items()
    ]
    return markdown(["network", *tasks], lines)


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "-"
    shown = [f"{value:.0f}" for value in values]
    return shown[0] if len(shown) == 1 else f"{mean(values):.0f} ({', '.join(shown)})"
