"""
What a policy that knows nothing gets: the mean return of 100 episodes of random actions, where scores have their zero.

    python benchmarks/random_policy.py

Each env is a line in results/random_policy.jsonl.
"""

from __future__ import annotations

import argparse
from statistics import mean
from typing import Any

import gymnasium as gym

from command import benchmark_parser, markdown, parsed, run_here
from record import finished
from vector_settings import ENTRIES

NAME = "random_policy"
EPISODES = 100
SMOKE: dict[str, Any] = {"env": "CartPole-v1", "seed": 0, "episodes": 2}


def run(env: str, seed: int, episodes: int = EPISODES) -> dict[str, Any]:
    """Play."""
    game, returns = gym.make(env), []
    game.action_space.seed(seed)
    for episode in range(episodes):
        game.reset(seed=seed + episode)
        score, is_over = 0.0, False
        while not is_over:
            _, reward, terminated, truncated, _ = game.step(game.action_space.sample())
            score, is_over = score + float(reward), terminated or truncated
        returns.append(score)
    game.close()
    return {"return": round(mean(returns), 2), "lowest": round(min(returns), 2), "highest": round(max(returns), 2)}


def table() -> str:
    """A row for each env."""
    lines = [[row["cell"]["env"], row["return"], row["lowest"], row["highest"]] for row in finished(NAME)]
    return markdown(["", "mean return", "lowest", "highest"], lines)


def options() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--envs", nargs="+", default=list(ENTRIES), choices=list(ENTRIES))
    parser.add_argument("--seed", type=int, default=0)
    return parser


def main() -> None:
    args = parsed(options())
    cells = [{"env": env, "seed": args.seed} for env in args.envs]
    run_here(NAME, args, [SMOKE] if args.smoke else cells, run, table)


if __name__ == "__main__":
    main()
