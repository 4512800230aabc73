"""
Training speed on eight envs: stock SB3 beside all that this package has for an env of its kind.

    python benchmarks/eight_envs.py --rounds 2   # about seven minutes a round
    python benchmarks/eight_envs.py --table

The numbers are rl_zoo3's, without VecNormalize, schedules and gSDE. *All* is our policy (with LayerNorm, of images with
BatchNorm), the fast path or ``lean``, our buffer, the guards and a HealthCallback; of Atari games ALE's vector env too.
Each cell trains in a process of its own, on one thread: two rollouts with their updates to warm up, then the steps that
are timed. Both variants take turns, and back in every second round. Each cell is a line in results/eight_envs.jsonl.
"""

from __future__ import annotations

import argparse
import os
from statistics import median
from typing import Any, NamedTuple

import torch as th

from command import add_cell_flag, benchmark_parser, markdown, parsed, run_in_processes, with_range
from record import finished
from sb3_stable_ppo.bench.measuring import turns
from sb3_stable_ppo.bench.training import train_variant
from sb3_stable_ppo.bench.variants import kind_of

NAME = "eight_envs"
STOCK, ALL = "stock", "all"


class Task(NamedTuple):
    """The numbers that an env is trained with, and how many steps are timed."""

    n_envs: int
    n_steps: int
    batch_size: int
    n_epochs: int
    steps: int


TASKS = {
    "CartPole-v1": Task(8, 32, 256, 20, 16_384),
    "Acrobot-v1": Task(16, 256, 64, 4, 16_384),
    "LunarLander-v3": Task(16, 1024, 64, 4, 16_384),
    "Pendulum-v1": Task(4, 1024, 64, 10, 8192),
    "Hopper-v5": Task(1, 512, 32, 5, 8192),
    "HalfCheetah-v5": Task(1, 512, 64, 20, 4096),
    "PongNoFrameskip-v4": Task(8, 128, 256, 4, 4096),
    "BreakoutNoFrameskip-v4": Task(8, 128, 256, 4, 4096),
}


def train(env_id: str, variant: str, seed: int, steps: int | None = None) -> dict[str, float]:
    """Train in this process."""
    th.set_num_threads(1)
    kind, task = kind_of(env_id), TASKS[env_id]
    chosen = kind.variants[kind.base if variant == STOCK else ALL]._replace(is_watched=variant == ALL)
    numbers = {"n_steps": task.n_steps, "batch_size": task.batch_size, "n_epochs": task.n_epochs}
    return train_variant(chosen, env_id, task.n_envs, steps or task.steps, seed, numbers)


def table() -> str:
    """A row for each env: medians and ranges of steps per second."""
    lines = []
    for env_id, task in TASKS.items():
        speeds: dict[str, list[float]] = {STOCK: [], ALL: []}
        for row in finished(NAME):
            if row["cell"]["env_id"] == env_id:
                speeds[row["cell"]["variant"]].append(row["steps_per_s"])
        if all(speeds.values()):
            stock, ours = (median(found) for found in speeds.values())
            shown = [with_range(found, median(found), ".0f") for found in speeds.values()]
            lines.append([env_id, task.n_envs, *shown, f"{ours / stock:.2f}"])
    return markdown(["env", "envs at once", "stock SB3, steps/s", "all of it", "times stock"], lines)


def options() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--envs", nargs="+", default=list(TASKS), choices=list(TASKS))
    add_cell_flag(parser)
    return parser


def main() -> None:
    args = parsed(options())
    os.environ["OMP_NUM_THREADS"] = "1"  # NumPy's too, of the processes to come
    cells: list[dict[str, Any]] = [
        {"env_id": env_id, "variant": variant, "seed": number}
        for env_id in args.envs
        for number, variant in turns([STOCK, ALL], args.rounds)
    ]
    if args.smoke:
        cells = [{"env_id": "CartPole-v1", "variant": STOCK, "seed": 0, "steps": 256}]
    run_in_processes(__file__, NAME, args, cells, train, table)


if __name__ == "__main__":
    main()
