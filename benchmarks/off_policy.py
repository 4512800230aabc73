"""
Interventions in algorithms with a replay buffer: SAC at a high replay ratio, and DQN on one task after another.

    python benchmarks/off_policy.py --settings sac --seeds 0 1 2        # 30,000 steps of Hopper, 240,000 updates
    python benchmarks/off_policy.py --settings dqn --seeds 0 1 2 3 4    # CartPole, five tasks of 20,000 steps
    python benchmarks/off_policy.py --table

``sac`` takes eight gradient steps for each step of the env: many on few data, which costs SAC its ability to learn from
later ones (the primacy bias, https://arxiv.org/abs/2205.07802, whose cure is the hard reset). ``dqn`` learns CartPole
whose observations are shifted by another constant in each task, drawn with a standard deviation of 2, as in
``continual.py``; its buffer holds half a task. All else is SB3's default but for what ``SETTINGS`` names.

Each finished run is a line in results/off_policy.jsonl: the mean return of the episodes of each task (of each fifth of
the run for SAC), of its second half, 20 episodes of the final model of SAC, and the layers at the end.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable, Mapping
from statistics import mean
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3 import DQN, SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

import sb3_stable_ppo as ours
from command import add_cell_flag, benchmark_parser, markdown, parsed, run_in_processes
from episodes import Episodes
from intervals import shown
from record import finished
from sb3_stable_ppo.health.figures import inspect_policy, layer_figures
from sb3_stable_ppo.probes import ActivationProbe
from sb3_stable_ppo.probes.rows import recent_observations
from shifted import shifted_env, task_returns

NAME = "off_policy"
PARTS, EPISODES = 5, 20


class Settings(NamedTuple):
    """
    :param algorithm: SB3's
    :param env_id: of the env
    :param steps: of a run
    :param shifts: whether each part of the run is another task
    :param options: of the algorithm
    """

    algorithm: type[OffPolicyAlgorithm]
    env_id: str
    steps: int
    shifts: bool
    options: Mapping[str, Any]


SETTINGS = {
    "sac": Settings(SAC, "Hopper-v5", 30_000, False, {"gradient_steps": 8, "learning_starts": 1000}),
    "dqn": Settings(
        DQN,
        "CartPole-v1",
        100_000,
        True,
        {
            "learning_rate": 1e-3,
            "buffer_size": 10_000,
            "learning_starts": 1000,
            "batch_size": 64,
            "train_freq": 1,
            "target_update_interval": 500,
            "exploration_fraction": 0.05,
            "policy_kwargs": {"net_arch": [256, 256]},
        },
    ),
}
RESET = {"every_updates": 10_000}
"""An update is one ``train()``: eight gradient steps of ``sac``, one of ``dqn``."""
VARIANTS: dict[str, Callable[[], list[BaseCallback]]] = {
    "stock": list,
    "L2Init": lambda: [ours.L2Init()],
    "ReDo": lambda: [ours.ReDo()],
    "ReGraMa": lambda: [ours.ReGraMa()],
    "hard reset": lambda: [ours.ShrinkPerturb(0.0, 1.0, when=RESET), ours.AdamReset("full", when=RESET)],
}
SMOKE: dict[str, Any] = {"settings": "dqn", "variant": "ReGraMa", "seed": 0, "steps": 1500}


def run(settings: str, variant: str, seed: int, steps: int) -> dict[str, Any]:
    """Train one."""
    th.set_num_threads(1)
    warnings.simplefilter("ignore", UserWarning)
    algorithm, env_id, _, shifts, options = SETTINGS[settings]
    env = shifted_env(env_id, seed, PARTS, steps // PARTS) if shifts else Monitor(gym.make(env_id))
    model = algorithm("MlpPolicy", env, seed=seed, **options)
    episodes, start = Episodes(), time.perf_counter()
    model.learn(steps, callback=[episodes, *VARIANTS[variant]()])
    minutes = (time.perf_counter() - start) / 60
    found: dict[str, Any] = dict(task_returns(episodes.ended, PARTS, steps // PARTS))
    if not shifts:
        found["final"] = round(float(np.mean(evaluate_policy(model, Monitor(gym.make(env_id)), EPISODES)[0])), 2)
    probe = ActivationProbe(model.policy)
    assert model.replay_buffer is not None
    rows = model.policy.obs_to_tensor(recent_observations(model.replay_buffer, 64))[0]
    layers = layer_figures(probe, inspect_policy(model.policy, probe, rows).activations)
    live = {name: [int(layer["live"]), int(layer["units"])] for name, layer in layers.items()}
    return {**found, "live": live, "minutes": round(minutes, 2)}


def table() -> str:
    """A table for each of the settings and each length that there are runs of."""
    kinds = dict.fromkeys((row["cell"]["settings"], row["cell"]["steps"]) for row in finished(NAME))
    return "\n\n".join(table_of(*kind) for kind in kinds)


def table_of(settings: str, steps: int) -> str:
    """A row for each variant, with the interval of the interquartile mean over its seeds."""
    lines = []
    for variant in VARIANTS:
        cell = {"settings": settings, "variant": variant, "steps": steps}
        own = [row for row in finished(NAME) if {**row["cell"], **cell} == row["cell"]]
        if own:
            first = [row["returns"][0] or 0.0 for row in own]
            later = [mean(ret or 0.0 for ret in row["returns"][1:]) for row in own]
            last = [row["final"] if "final" in row else row["late_returns"][-1] or 0.0 for row in own]
            live = [
                100 * sum(n for n, _ in row["live"].values()) / sum(n for _, n in row["live"].values()) for row in own
            ]
            lines.append([variant, len(own), *(shown(values) for values in (first, later, last)), f"{mean(live):.0f}%"])
    chosen = SETTINGS[settings]
    name = f"{chosen.algorithm.__name__}, {chosen.env_id.partition('-')[0]}, {steps:,} steps"
    heads = {
        True: ["first task", "later tasks", "second half of the last"],
        False: ["first fifth", "later fifths", f"{EPISODES} episodes of the final model"],
    }[chosen.shifts]
    return markdown([name, "seeds", *heads, "live units at the end"], lines)


def options() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, help="of a run; by default as the settings have it")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time")
    add_cell_flag(parser)
    return parser


def main() -> None:
    args = parsed(options())
    cells: list[dict[str, Any]] = [
        {"settings": settings, "variant": variant, "seed": seed, "steps": args.steps or SETTINGS[settings].steps}
        for settings in args.settings
        for seed in args.seeds
        for variant in args.variants
    ]
    os.environ["OMP_NUM_THREADS"] = "1"
    run_in_processes(__file__, NAME, args, [SMOKE] if args.smoke else cells, run, table, args.workers)


if __name__ == "__main__":
    main()
