"""
How an agent that wins Pong loses the points that it still loses: the first of a game, one that follows a lost one, or
one that follows a won one.

    python benchmarks/lost_points.py --model logs/suite/RUN/checkpoints/000001000448/model.zip

40 games in SB3's own env, actions drawn as in training; about a minute on one core. Each model is a line in
results/lost_points.jsonl. The table of docs/pong.md is printed at the end.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import torch as th

from command import benchmark_parser, markdown, parsed
from pong import make_pong
from record import finished, run_missing
from sb3_stable_ppo import StablePongPolicy, StablePPO

NAME, GAMES, N_ENVS = "lost_points", 40, 8
SMOKE: dict[str, Any] = {"name": "smoke", "games": 1}
Point = tuple[int, bool]
"""Steps since the point before it, and whether it was won."""


def play(model: StablePPO, n_games: int, seed: int = 777, n_envs: int = N_ENVS) -> list[list[Point]]:
    """
    Play games; actions are drawn.

    :param model: the agent
    :param n_games: that end before it stops
    :param seed: of envs and draws
    :param n_envs: games at a time
    :return: of each game its points
    """
    th.manual_seed(seed)
    env = make_pong(seed, n_envs)
    observations = env.reset()
    games: list[list[Point]] = []
    points: list[list[Point]] = [[] for _ in range(n_envs)]
    age = np.zeros(n_envs, int)
    while len(games) < n_games:
        actions, _ = model.predict(observations, deterministic=False)  # type: ignore[arg-type]
        observations, rewards, dones, _ = env.step(actions)
        age += 1
        for index in np.flatnonzero(rewards):
            points[index].append((int(age[index]), bool(rewards[index] > 0)))
            age[index] = 0
        for index in np.flatnonzero(dones):
            games.append(points[index])
            points[index], age[index] = [], 0
    env.close()
    return games


def told(games: Sequence[Sequence[Point]]) -> dict[str, float]:
    """
    >>> told([[(60, False), (95, True), (90, True)], [(58, False), (40, False), (95, True)]])["first_lost"]
    2
    >>> told([[(60, True), (50, False), (40, False)]])["return"]
    -1

    :param games: of each its points
    :return: mean return; how many games began with a lost point, and the median of its steps; lost points a game that
        followed a lost and a won one
    """
    first = [game[0] for game in games]
    pairs = [(before, after) for game in games for (_, before), (_, after) in pairwise(game)]
    lost = [steps for steps, is_won in first if not is_won]
    return {
        "games": len(games),
        "return": mean(sum(1 if is_won else -1 for _, is_won in game) for game in games),
        "first_lost": len(lost),
        "first_lost_after": median(lost) if lost else 0,
        "lost_after_lost": round(sum(not after for before, after in pairs if not before) / len(games), 2),
        "lost_after_won": round(sum(not after for before, after in pairs if before) / len(games), 2),
    }


def table() -> str:
    """A row for each model."""
    lines = [
        [
            row["cell"]["name"],
            f"{row['return']:.1f}",
            f"{row['first_lost']} of {row['games']}",
            row["first_lost_after"],
            row["lost_after_won"],
            row["lost_after_lost"],
        ]
        for row in finished(NAME)
    ]
    heads = ["agent", "mean return", "games whose first point is lost", "steps until then (median)"]
    return markdown([*heads, "later points lost a game, after a won one", "after a lost one"], lines)


def options() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--model", type=Path, help="a zip of StablePPO")
    parser.add_argument("--name", help="what the model is called in the table (default: its path)")
    parser.add_argument("--games", type=int, default=GAMES)
    return parser


def main() -> None:
    args = parsed(options())
    th.set_num_threads(1)
    if args.smoke:
        model = StablePPO(StablePongPolicy, make_pong(0, 1), n_steps=8, batch_size=8, seed=0)
        run_missing(NAME, [SMOKE], lambda cell: told(play(model, cell["games"], n_envs=1)))
    elif args.model is not None:
        model = StablePPO.load(args.model, device="cpu")
        cell = {"name": args.name or str(args.model), "games": args.games}
        run_missing(NAME, [cell], lambda cell: told(play(model, cell["games"])))
    elif not args.table:
        sys.exit("--model names the zip of the agent that is to play; --table prints what is on record.")
    print(table())


if __name__ == "__main__":
    main()
