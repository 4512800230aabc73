"""
How far a single update of a healthy run goes: the figures that the undo guard bounds, with the bounds switched off.

    python benchmarks/healthy_updates.py     # about 12 minutes on two cores; goes on where it stopped

CartPole and Pendulum at SB3's defaults and at rl_zoo3's settings (CartPole at a constant learning rate, which is
harsher than the zoo's decay), Pong at rl_zoo3's. Each finished run is a line in results/healthy_updates.jsonl; the end
prints the table of docs/guards.md, the largest figure of a single update over all seeds.
"""

from __future__ import annotations

import argparse
import multiprocessing
import warnings
from collections.abc import Callable
from statistics import mean
from typing import Any

import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from command import benchmark_parser, markdown, parsed
from pong import SETTINGS, TORCHS_WAY, make_pong
from record import finished, is_done, record
from sb3_stable_ppo import StablePPO

NAME = "healthy_updates"
FIGURES = ("update_kl", "lost_unit_fraction", "newly_inactive_fraction")
NO_BOUNDS = {"max_kl": 1e9, "max_lost_unit_fraction": 1.0, "max_newly_inactive_fraction": 1.0}
CARTPOLE: dict[str, Any] = {
    "n_steps": 32,
    "batch_size": 256,
    "gae_lambda": 0.8,
    "gamma": 0.98,
    "n_epochs": 20,
    "learning_rate": 1e-3,
}
PENDULUM: dict[str, Any] = {
    "n_steps": 1024,
    "gamma": 0.9,
    "learning_rate": 1e-3,
    "use_sde": True,
    "sde_sample_freq": 4,
}
RUNS: dict[str, tuple[Callable[[int], VecEnv], int, dict[str, Any]]] = {
    "cartpole-sb3": (lambda seed: make_vec_env("CartPole-v1", 1, seed=seed), 40_960, {}),
    "cartpole-zoo": (lambda seed: make_vec_env("CartPole-v1", 8, seed=seed), 40_960, CARTPOLE),
    "pendulum-sb3": (lambda seed: make_vec_env("Pendulum-v1", 1, seed=seed), 40_960, {}),
    "pendulum-zoo": (lambda seed: make_vec_env("Pendulum-v1", 4, seed=seed), 61_440, PENDULUM),
    "pong-zoo": (make_pong, 12_288, {**SETTINGS, "learning_rate": 2.5e-4}),
    "pong-ours": (make_pong, 12_288, SETTINGS),
}
WITHOUT_SIGN = ("MlpPolicy",)
"""Policies whose activation, tanh, is not judged by sign: units that become inactive are not counted."""
POLICIES: dict[str, tuple[str, dict[str, Any]]] = {
    "MlpPolicy": ("MlpPolicy", {}),
    "StableMlpPolicy": ("StableMlpPolicy", {}),
    "ReLU, no norm": ("StableMlpPolicy", {"norm": "none", "activation": "relu"}),
    "CnnPolicy": ("CnnPolicy", {}),
    "StablePongPolicy": ("StablePongPolicy", TORCHS_WAY),
    "StablePongPolicy, layer": ("StablePongPolicy", {"norm": "layer"}),
}


class Largest(BaseCallback):
    """The largest of each figure over all updates."""

    def __init__(self) -> None:
        super().__init__()
        self.figures: dict[str, list[float]] = {name: [] for name in FIGURES}

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        for name, values in self.figures.items():
            if f"guards/{name}" in self.logger.name_to_value:
                values.append(float(self.logger.name_to_value[f"guards/{name}"]))

    def _on_training_end(self) -> None:
        self._on_rollout_start()


def run(cell: dict[str, Any], threads: int = 1) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train one cell; the three largest of each figure."""
    warnings.simplefilter("ignore")
    th.set_num_threads(threads)
    make, steps, settings = RUNS[cell["run"]]
    steps = cell.get("steps", steps)
    policy, policy_kwargs = POLICIES[cell["policy"]]
    env, largest = make(cell["seed"]), Largest()
    model = StablePPO(
        policy, env, seed=cell["seed"], guards=NO_BOUNDS, policy_kwargs=policy_kwargs or None, **settings
    ).learn(steps, callback=largest)
    env.close()
    return cell, {
        **{name: sorted(values, reverse=True)[:3] for name, values in largest.figures.items()},
        "updates": len(largest.figures["update_kl"]),
        "return": mean(episode["r"] for episode in model.ep_info_buffer or [{"r": 0.0}]),
    }


def cells() -> list[dict[str, Any]]:
    """All cells, the heavy ones last."""
    small = [(run, policy, seed) for run in list(RUNS)[:4] for policy in list(POLICIES)[:3] for seed in range(2)]
    pong = [("pong-zoo", policy, seed) for policy in list(POLICIES)[3:] for seed in range(2)]
    pong += [("pong-ours", "StablePongPolicy", seed) for seed in range(2)]
    return [{"run": run, "policy": policy, "seed": seed} for run, policy, seed in small + pong]


def table() -> str:
    """The table of docs/guards.md: the largest figure of a single update over all seeds."""
    rows, lines = finished(NAME), []
    for name, policy in dict.fromkeys((cell["run"], cell["policy"]) for cell in cells()):
        found = [row for row in rows if (row["cell"]["run"], row["cell"]["policy"]) == (name, policy)]
        if found:
            kl, lost, inactive = (max(row[figure][0] for row in found) for figure in FIGURES)
            lines.append(
                [name, policy, f"{kl:.3f}", f"{lost:.2f}", "-" if policy in WITHOUT_SIGN else f"{inactive:.2f}"]
            )
    return markdown(["Run", "Policy", *FIGURES], lines)


def options() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--workers", type=int, default=2)
    return parser


def measure(todo: list[dict[str, Any]], workers: int) -> None:
    """Small runs at once, each on a core of its own; runs of Pong one after the other, on as many cores."""
    small = [cell for cell in todo if not cell["run"].startswith("pong")]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for cell, figures in pool.imap_unordered(run, small):
            record(NAME, cell, figures)
    for cell in todo:
        if cell not in small:
            record(NAME, *run(cell, threads=workers))


def main() -> None:
    args = parsed(options())
    if args.smoke and not args.table:
        record(NAME, *run({"run": "cartpole-zoo", "policy": "StableMlpPolicy", "seed": 0, "steps": 512}))
    elif not args.table:
        measure([cell for cell in cells() if not is_done(NAME, cell)], args.workers)
    print(table())


if __name__ == "__main__":
    main()
