"""
Which points an agent that wins Pong still loses: the first of a game, one that follows a won one, or one that follows
a lost one; and how sure it is of its moves.

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
from typing import Any, cast

import numpy as np
import torch as th

from command import benchmark_parser, markdown, parsed
from pong import make_pong
from record import finished, run_missing
from sb3_stable_ppo import StablePongPolicy, StablePPO

NAME, GAMES, N_ENVS = "lost_points", 40, 8
SMOKE: dict[str, Any] = {"name": "smoke", "games": 1}
MOVES = ((0, 1), (2, 4), (3, 5))
"""The actions that leave the paddle where it is, move it up, and move it down: FIRE beside a move changes nothing."""
Point = tuple[int, bool]
"""Steps since the point before it, and whether it was won."""


def run(model: StablePPO, n_games: int, seed: int = 777, n_envs: int = N_ENVS) -> dict[str, float]:
    """
    Play games; actions are drawn.

    :param model: the agent
    :param n_games: that end before it stops
    :param seed: of envs and draws
    :param n_envs: games at a time
    :return: :func:`told` of them, and the mean entropy of actions and of moves, in nats
    """
    th.manual_seed(seed)
    env = make_pong(seed, n_envs)
    observations = env.reset()
    games: list[list[Point]] = []
    points: list[list[Point]] = [[] for _ in range(n_envs)]
    age, entropies = np.zeros(n_envs, int), []
    model.policy.set_training_mode(False)
    while len(games) < n_games:
        with th.no_grad():
            policy = model.policy.get_distribution(model.policy.obs_to_tensor(observations)[0])  # type: ignore[arg-type]
        of_actions = cast(th.distributions.Categorical, policy.distribution).probs
        of_moves = th.stack([of_actions[:, list(same)].sum(1) for same in MOVES], 1)
        entropies.append([float(th.special.entr(each).sum(1).mean()) for each in (of_actions, of_moves)])
        observations, rewards, dones, _ = env.step(policy.sample().numpy())
        age += 1
        for index in np.flatnonzero(rewards):
            points[index].append((int(age[index]), bool(rewards[index] > 0)))
            age[index] = 0
        for index in np.flatnonzero(dones):
            games.append(points[index])
            points[index], age[index] = [], 0
    env.close()
    entropy, entropy_of_moves = np.mean(entropies, axis=0).round(3)
    return {**told(games), "entropy": float(entropy), "entropy_of_moves": float(entropy_of_moves)}


def told(games: Sequence[Sequence[Point]]) -> dict[str, float]:
    """
    >>> told([[(60, False), (95, True), (90, True), (50, False)]])["lost_after_won"], told([[(60, True)]])["return"]
    (1, 1)

    :param games: of each its points
    :return: mean return; how many games began with a lost point, and the median of its steps; how many later points
        followed a won and a lost one, and how many of those were lost
    """
    lost = [steps for (steps, is_won), *_ in games if not is_won]
    later = [(before, after) for game in games for (_, before), (_, after) in pairwise(game)]
    after_won, after_lost = ([after for before, after in later if before is is_won] for is_won in (True, False))
    return {
        "games": len(games),
        "return": mean(sum(1 if is_won else -1 for _, is_won in game) for game in games),
        "first_lost": len(lost),
        "first_lost_after": median(lost) if lost else 0,
        "after_won": len(after_won),
        "lost_after_won": after_won.count(False),
        "after_lost": len(after_lost),
        "lost_after_lost": after_lost.count(False),
    }


def table() -> str:
    """A row for each model."""
    lines = [
        [
            row["cell"]["name"],
            f"{row['return']:.1f}",
            f"{row['first_lost']} of {row['games']}",
            *(f"{row[f'lost_{after}']} of {row[after]}" for after in ("after_won", "after_lost")),
            row["first_lost_after"],
            *(f"{row[name]:.2f}" for name in ("entropy", "entropy_of_moves")),
        ]
        for row in finished(NAME)
    ]
    lost = ["first points lost", "lost after a won one", "lost after a lost one", "median steps to a lost first one"]
    return markdown(["agent", "mean return", *lost, "entropy of actions", "of moves"], lines)


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
        run_missing(NAME, [SMOKE], lambda cell: run(model, cell["games"], n_envs=1))
    elif args.model is not None:
        model = StablePPO.load(args.model, device="cpu")
        cell = {"name": args.name or str(args.model), "games": args.games}
        run_missing(NAME, [cell], lambda cell: run(model, cell["games"]))
    elif not args.table:
        sys.exit("--model names the zip of the agent that is to play; --table prints what is on record.")
    print(table())


if __name__ == "__main__":
    main()
