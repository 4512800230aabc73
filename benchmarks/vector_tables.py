"""
The tables of networks on vectors, from the lines that suite.py has recorded of the settings in vector_settings.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import mean
from typing import Any, NamedTuple

import numpy as np

from command import markdown
from intervals import LEAST_SEEDS, Scores, improvement, over_tasks, told, with_each
from record import finished
from vector_settings import STOCK

NAME = "suite_vectors"
RL_ZOO3 = {
    "CartPole-v1": 500.0,
    "Acrobot-v1": -73.5,
    "LunarLander-v3": 242.1,
    "Pendulum-v1": -172.2,
    "Hopper-v5": 2410.4,
    "HalfCheetah-v5": 5819.1,
    "Walker2d-v5": 3478.8,
    "Swimmer-v5": 281.6,
}
"""
What rl_zoo3's own PPO agents get after their full training, of 100,000 (CartPole, Pendulum) or a million steps: one
run each, of an older version of LunarLander (2) and of the MuJoCo envs (3). github.com/DLR-RM/rl-baselines3-zoo,
benchmark.md
"""
Row = Mapping[str, Any]
Runs = dict[str, dict["Task", list[Row]]]


class Task(NamedTuple):
    """An env, whose numbers it is learnt with, and for how long."""

    env: str
    numbers: str
    steps: int

    def __str__(self) -> str:
        return f"{self.env.rpartition('-')[0]}, {self.numbers}, {self.steps // 1000}k"


def by_network() -> Runs:
    """The runs of each network, and of each of these by its env and whose numbers it has, with the steps."""
    found: Runs = {}
    for row in finished(NAME):
        env, numbers, network = row["cell"]["settings"].split(", ", 2)
        found.setdefault(network, {}).setdefault(Task(env, numbers, row["cell"]["steps"]), []).append(row)
    for of_tasks in found.values():
        for rows in of_tasks.values():
            rows.sort(key=lambda row: int(row["cell"]["seed"]))
    return found


def mean_over_run(row: Row) -> float:
    """
    The mean return over the whole run, each part of it counting alike: how soon it learnt, and how well.

    >>> mean_over_run({"curve": [[10, 1.0, 5], [20, 3.0, 1]]})
    2.0

    :param row: a run
    """
    return float(mean(value for _, value, _ in row["curve"]))


def final(row: Row) -> float:
    """
    The mean return of 20 episodes of the final model, without draws; of a run that broke, that of its last part.

    :param row: a run
    """
    return float(row["final"] if "final" in row else row["curve"][-1][1])


def networks_table(value: Callable[[Row], float]) -> str:
    """
    A row for each network, a column for each task that stock's network has been run on with two seeds or more: the mean
    over seeds, and each seed's.

    :param value: of a run
    """
    runs = by_network()
    tasks = sorted((task for task, rows in runs[STOCK].items() if len(rows) > 1), key=_order)
    lines = [
        [network, *(with_each([value(row) for row in of.get(task, [])]) for task in tasks)]
        for network, of in runs.items()
    ]
    return markdown(["network", *map(str, tasks)], lines)


def scores_table() -> str:
    """
    A row for each network that has been run often enough on all tasks at rl_zoo3's numbers that stock's network has:
    over all runs, the interquartile mean of its score, over the run and at the end, and how probable a better run than
    stock's is.
    """
    runs, random = by_network(), {row["cell"]["env"]: row["return"] for row in finished("random_policy")}
    tasks = [task for task, rows in runs[STOCK].items() if task.numbers == "zoo" and len(rows) >= LEAST_SEEDS]
    lines = []
    for network, of in runs.items():
        seeds = min((len(of.get(task, [])) for task in tasks), default=0)
        if seeds < LEAST_SEEDS:
            continue
        line = [network, f"{seeds} x {len(tasks)}"]
        for value in (mean_over_run, final):
            ours, theirs = (normalised(each, tasks, random, value) for each in (of, runs[STOCK]))
            better = "-" if network == STOCK else told(improvement(ours, theirs), 2)
            line += [told(over_tasks(ours), 2), better]
        lines.append(line)
    heads = ["network", "seeds x tasks", "score over the run", "better than stock", "score at the end"]
    return markdown([*heads, "better than stock"], lines)


def normalised(
    of: Mapping[Task, Sequence[Row]], tasks: Sequence[Task], random: Mapping[str, float], value: Callable[[Row], float]
) -> Scores:
    """
    :param of: a network's runs
    :param tasks: which of them
    :param random: what random actions get in each env
    :param value: of a run
    :return: 0 for random actions, 1 for rl_zoo3's agents; shape (seeds, tasks), of as many seeds as all tasks have
    """
    seeds = min(len(of[task]) for task in tasks)
    scores = [
        [(value(row) - random[task.env]) / (RL_ZOO3[task.env] - random[task.env]) for row in of[task][:seeds]]
        for task in tasks
    ]
    return np.array(scores).T


def _order(task: Task) -> tuple[int, str, int]:
    return (list(RL_ZOO3).index(task.env), task.numbers, task.steps)
