"""
Training speed on vectors: stock SB3, our policy as torch computes it, and our policy with ``lean``.

    python benchmarks/vectors.py --rounds 3   # about four minutes a round
    python benchmarks/vectors.py --table

Each cell trains in a process of its own, on one thread: two rollouts with their updates to warm up, then the steps that
are timed. Variants take turns, and back in every second round. Each cell is a line in results/vectors.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from statistics import median
from typing import Any, NamedTuple

import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

from command import add_cell_flag, benchmark_parser, in_a_process, markdown, parsed, with_range
from record import finished, run_missing
from sb3_stable_ppo import HealthCallback, StablePPO
from sb3_stable_ppo.bench.measuring import turns

NAME = "vectors"
VARIANTS: dict[str, tuple[type[PPO], str, dict[str, Any] | None]] = {
    "stock SB3": (PPO, "MlpPolicy", None),
    "StablePPO": (StablePPO, "StableMlpPolicy", None),
    "StablePPO, lean": (StablePPO, "StableMlpPolicy", {"lean": "auto", "optimizer_kwargs": {"fused": True}}),
}
"""Ours with the guards and HealthCallback."""
BASE = next(iter(VARIANTS))


class Task(NamedTuple):
    """An env and the numbers it is trained with."""

    env_id: str
    n_envs: int
    n_steps: int
    batch_size: int
    n_epochs: int
    n_rollouts: int


TASKS = {
    "CartPole, 1 env": Task("CartPole-v1", 1, 2048, 64, 10, 3),
    "CartPole, 8 envs": Task("CartPole-v1", 8, 256, 256, 20, 4),
    "Hopper, 1 env": Task("Hopper-v5", 1, 2048, 64, 10, 3),
    "Hopper, 8 envs": Task("Hopper-v5", 8, 512, 256, 10, 3),
}


def train(task: str, variant: str, seed: int, rollouts: int | None = None) -> dict[str, float]:
    """Train in this process."""
    th.set_num_threads(1)
    env_id, n_envs, n_steps, batch_size, n_epochs, n_rollouts = TASKS[task]
    algorithm, policy, policy_kwargs = VARIANTS[variant]
    options: dict[str, Any] = {"n_steps": n_steps, "batch_size": batch_size, "n_epochs": n_epochs}
    env = make_vec_env(env_id, n_envs, seed)
    model = algorithm(policy, env, seed=seed, device="cpu", policy_kwargs=policy_kwargs, **options)
    callbacks: list[BaseCallback] = [] if algorithm is PPO else [HealthCallback()]
    model.learn(2 * n_steps * n_envs, callback=callbacks)
    before, start = model.num_timesteps, time.perf_counter()
    model.learn((rollouts or n_rollouts) * n_steps * n_envs, callback=callbacks, reset_num_timesteps=False)
    seconds = time.perf_counter() - start
    env.close()
    return {"steps_per_s": (model.num_timesteps - before) / seconds}


def table() -> str:
    """A row for each task: medians and ranges of steps per second."""
    lines = []
    for task in TASKS:
        speeds: dict[str, list[float]] = {}
        for row in finished(NAME):
            if row["cell"]["task"] == task:
                speeds.setdefault(row["cell"]["variant"], []).append(row["steps_per_s"])
        if BASE not in speeds:
            continue
        base = median(speeds[BASE])
        cells = []
        for variant in VARIANTS:
            found = speeds.get(variant)
            times = "" if variant == BASE or not found else f", {median(found) / base:.2f} times"
            cells.append(f"{with_range(found, median(found), '.0f')}{times}" if found else "-")
        lines.append([task, *cells])
    return markdown(["steps/s, median (range)", *VARIANTS], lines)


def options() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    add_cell_flag(parser)
    return parser


def main() -> None:
    args = parsed(options())
    if args.cell:
        print(json.dumps(train(**args.cell)))
        return
    os.environ["OMP_NUM_THREADS"] = "1"  # NumPy's too, of the processes to come
    cells: list[dict[str, Any]] = [
        {"task": task, "variant": variant, "seed": number}
        for task in args.tasks
        for number, variant in turns(list(VARIANTS), args.rounds)
    ]
    if args.smoke:
        cells = [{"task": "CartPole, 8 envs", "variant": BASE, "seed": 0, "rollouts": 1}]
    run_missing(NAME, () if args.table else cells, lambda cell: in_a_process(__file__, cell))
    print(table())


if __name__ == "__main__":
    main()
