"""
Training speed on vectors: stock SB3, our policy as torch computes it, with ``lean``, with the guards, watched,
and on EnvPool.

    python benchmarks/vectors.py --rounds 3   # about five minutes a round
    python benchmarks/vectors.py --table

The variants are those of ``sb3-stable-ppo bench --env CartPole-v1``, and they are trained by its code. Each cell trains
in a process of its own, on one thread: two rollouts with their updates to warm up, then the steps that are timed.
Variants take turns, and back in every second round. Each cell is a line in results/vectors.jsonl. sbx-rl, PPO in JAX
(``pip install sbx-rl``), is measured beside them where it is installed.
"""

from __future__ import annotations

import argparse
import os
from importlib.util import find_spec
from statistics import median
from typing import Any, NamedTuple

import torch as th

from command import add_cell_flag, benchmark_parser, markdown, parsed, run_in_processes, with_range
from record import finished
from sb3_stable_ppo.bench.measuring import turns
from sb3_stable_ppo.bench.training import train_variant
from sb3_stable_ppo.bench.variants import VECTORS, Variant

NAME, SBX = "vectors", "sbx-rl"
VARIANTS = {
    short: VECTORS.variants[short].name for short in ("stock", "policy", "lean", "buffer", "guards", "all", "envpool")
}
COLUMNS = {**VARIANTS, SBX: "sbx-rl (JAX)"}


class Task(NamedTuple):
    """An env and the numbers it is trained with."""

    env_id: str
    n_envs: int
    n_steps: int
    batch_size: int
    n_epochs: int
    n_rollouts: int


TASKS = {
    "CartPole, 1 env": Task("CartPole-v1", 1, 2048, 64, 10, 4),
    "CartPole, 8 envs": Task("CartPole-v1", 8, 256, 256, 20, 8),
    "Hopper, 1 env": Task("Hopper-v5", 1, 2048, 64, 10, 4),
    "Hopper, 8 envs": Task("Hopper-v5", 8, 512, 256, 10, 4),
}


def train(task: str, variant: str, seed: int, rollouts: int | None = None) -> dict[str, float]:
    """Train in this process."""
    th.set_num_threads(1)
    env_id, n_envs, n_steps, batch_size, n_epochs, n_rollouts = TASKS[task]
    numbers = {"n_steps": n_steps, "batch_size": batch_size, "n_epochs": n_epochs}
    steps = (rollouts or n_rollouts) * n_steps * n_envs
    if variant == SBX:
        from sbx import PPO

        chosen = Variant(COLUMNS[SBX], PPO, "dummy", "MlpPolicy")
    else:
        chosen = VECTORS.variants[variant]
    return train_variant(chosen, env_id, n_envs, steps, seed, numbers)


def table() -> str:
    """A row for each task: medians and ranges of steps per second."""
    lines = []
    for task in TASKS:
        speeds: dict[str, list[float]] = {}
        for row in finished(NAME):
            if row["cell"]["task"] == task:
                speeds.setdefault(row["cell"]["variant"], []).append(row["steps_per_s"])
        if VECTORS.base not in speeds:
            continue
        base = median(speeds[VECTORS.base])
        cells = []
        for variant in COLUMNS:
            found = speeds.get(variant)
            times = "" if variant == VECTORS.base or not found else f", {median(found) / base:.2f} times"
            cells.append(f"{with_range(found, median(found), '.0f')}{times}" if found else "-")
        lines.append([task, *cells])
    return markdown(["steps/s, median (range)", *COLUMNS.values()], lines)


def options() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    add_cell_flag(parser)
    return parser


def main() -> None:
    args = parsed(options())
    os.environ["OMP_NUM_THREADS"] = "1"  # NumPy's too, of the processes to come
    cells: list[dict[str, Any]] = [
        {"task": task, "variant": variant, "seed": number}
        for task in args.tasks
        for number, variant in turns([*VARIANTS, *([SBX] if find_spec("sbx") else [])], args.rounds)
    ]
    if args.smoke:
        cells = [{"task": "CartPole, 8 envs", "variant": VECTORS.base, "seed": 0, "rollouts": 1}]
    run_in_processes(__file__, NAME, args, cells, train, table)


if __name__ == "__main__":
    main()
