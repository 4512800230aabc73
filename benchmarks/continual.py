"""
Loss of plasticity where it is known to come: PPO on one task after another, with and without interventions.

    python benchmarks/continual.py --envs CartPole-v1 --variants PPO L2Init --seeds 0 1 2   # about 25 minutes a run
    python benchmarks/continual.py --table

The setting of C-CHAIN (https://arxiv.org/abs/2506.00592, github.com/bluecontra/C-CHAIN), which has it from TRAC: ten
tasks of 200 rollouts of 800 steps; in each task but the first a constant is added to the observations, drawn with a
standard deviation of 2; actor and critic of three layers of 256 units with LeakyReLU(0.1) and torch's init; Adam at
0.01, minibatches of 32, 5 epochs, clip range 0.2, entropy 0.01, rewards divided by 20, episodes of 400 steps at most,
no clipping of gradients. Advantages are normalised by SB3, minibatch by minibatch, where C-CHAIN does so by rollout.

Each finished run is a line in results/continual.jsonl: the mean return of the episodes of each task, of its second
half, and the layers at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import mean
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from torch import nn

import sb3_stable_ppo as ours
from command import add_cell_flag, benchmark_parser, in_a_process, markdown, parsed
from record import finished, is_done, record
from sb3_stable_ppo.common.errors import one_line
from sb3_stable_ppo.common.tensors import is_broken_distribution
from sb3_stable_ppo.health.figures import inspect_policy, layer_figures
from sb3_stable_ppo.probes import ActivationProbe
from sb3_stable_ppo.probes.rows import strided_observations
from vitals import guard_counts

NAME = "continual"
TASKS, ROLLOUTS, N_STEPS = 10, 200, 800
SHIFT, REWARD_SCALE, LONGEST = 2.0, 20.0, 400
NUMBERS: dict[str, Any] = {
    "learning_rate": 0.01,
    "n_steps": N_STEPS,
    "batch_size": 32,
    "n_epochs": 5,
    "ent_coef": 0.01,
    "max_grad_norm": 1e9,
}
VARIANTS: dict[str, tuple[type[PPO], Callable[[], list[BaseCallback]]]] = {
    "PPO": (PPO, list),
    "StablePPO": (ours.StablePPO, list),
    "L2Init": (PPO, lambda: [ours.L2Init()]),
    "ShrinkPerturb": (PPO, lambda: [ours.ShrinkPerturb()]),
    "WeightClip": (PPO, lambda: [ours.WeightClip()]),
    "SpectralCap": (PPO, lambda: [ours.SpectralCap()]),
    "AdamReset": (PPO, lambda: [ours.AdamReset()]),
    "ChurnReduction": (PPO, lambda: [ours.ChurnReduction()]),
    "FeatureRegularization": (PPO, lambda: [ours.FeatureRegularization()]),
    "ReDo": (PPO, lambda: [ours.ReDo()]),
    "ReGraMa": (PPO, lambda: [ours.ReGraMa()]),
    "ContinualBackprop": (PPO, lambda: [ours.ContinualBackprop()]),
}
SMOKE: dict[str, Any] = {"env": "CartPole-v1", "variant": "L2Init", "seed": 0, "tasks": 2, "rollouts": 1}


class Leaky(nn.LeakyReLU):
    """LeakyReLU(0.1), by a class without arguments, as SB3's ``activation_fn`` wants it."""

    def __init__(self) -> None:
        super().__init__(0.1)


class Shifted(gym.Wrapper[Any, Any, Any, Any]):
    """
    Adds a constant to the observations, another one in each task, and divides the rewards.

    :param env: any, with vectors
    :param shifts: of the tasks, shape (tasks, size)
    :param task_steps: of each task
    """

    def __init__(self, env: gym.Env[Any, Any], shifts: np.ndarray, task_steps: int) -> None:
        super().__init__(env)
        size = env.observation_space.shape
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, size, np.float32)
        self.shifts, self.task_steps, self.steps = shifts.astype(np.float32), task_steps, 0

    def _shifted(self, observation: np.ndarray) -> np.ndarray:
        return observation.astype(np.float32) + self.shifts[min(self.steps // self.task_steps, len(self.shifts) - 1)]

    def reset(self, **kwargs: Any) -> tuple[np.ndarray, dict[str, Any]]:
        observation, info = self.env.reset(**kwargs)
        return self._shifted(observation), info

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.steps += 1
        return self._shifted(observation), float(reward) / REWARD_SCALE, terminated, truncated, info


class Episodes(BaseCallback):
    """Step and return of each episode that has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: list[tuple[int, float]] = []

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "episode" in info:
                self.ended.append((self.num_timesteps, info["episode"]["r"]))
        return True

    def _on_rollout_end(self) -> None:
        self.rows = self.model.policy.obs_to_tensor(strided_observations(self.model.rollout_buffer, 64))[0]  # type: ignore[attr-defined]


def run(env: str, variant: str, seed: int, tasks: int = TASKS, rollouts: int = ROLLOUTS) -> dict[str, Any]:
    """Train through all tasks."""
    th.set_num_threads(1)
    warnings.simplefilter("ignore", UserWarning)
    task_steps = rollouts * N_STEPS
    game = gym.make(env, max_episode_steps=LONGEST)
    shifts = np.random.default_rng(seed).normal(0, SHIFT, (tasks, *(game.observation_space.shape or ())))
    shifts[0] = 0
    algorithm, callbacks = VARIANTS[variant]
    network = {"net_arch": [256] * 3, "activation_fn": Leaky, "ortho_init": False, "optimizer_kwargs": {"eps": 1e-8}}
    shifted = Shifted(Monitor(game), shifts, task_steps)
    model = algorithm("MlpPolicy", shifted, policy_kwargs=network, seed=seed, **NUMBERS)
    episodes, broken, start = Episodes(), "", time.perf_counter()
    try:
        model.learn(tasks * task_steps, callback=[episodes, *callbacks()])
    except ValueError as error:  # with which SB3 ends a run whose policy has become NaN, and the guards one in vain
        if not is_broken_distribution(error) and not isinstance(error, ours.CollapseError):
            raise
        broken = one_line(error, 100)
    found: dict[str, Any] = {"returns": [], "late_returns": []}
    for task in range(tasks):
        own = [(step, ret) for step, ret in episodes.ended if task * task_steps < step <= (task + 1) * task_steps]
        late = [ret for step, ret in own if step > (task + 0.5) * task_steps]
        found["returns"].append(round(mean([ret for _, ret in own]), 2) if own else None)
        found["late_returns"].append(round(mean(late), 2) if late else None)
    if broken:
        found["broken"] = [model.num_timesteps, broken]
    else:
        probe = ActivationProbe(model.policy)
        layers = layer_figures(probe, inspect_policy(model.policy, probe, episodes.rows).activations)
        found["live"] = {name: [int(layer["live"]), int(layer["units"])] for name, layer in layers.items()}
    return {**found, **guard_counts(model), "minutes": round((time.perf_counter() - start) / 60, 2)}


def table() -> str:
    """A row for each env and variant: the mean return of the tasks, over the seeds, and what broke."""
    rows, lines = [row for row in finished(NAME) if "tasks" not in row["cell"]], []
    for env in dict.fromkeys(row["cell"]["env"] for row in rows):
        for variant in VARIANTS:
            own = [row for row in rows if (row["cell"]["env"], row["cell"]["variant"]) == (env, variant)]
            if not own:
                continue
            means = [mean(ret for ret in row["returns"] if ret is not None) for row in own]
            late = [
                f"{mean(found):.0f}"
                if (found := [row["late_returns"][task] for row in own if row["late_returns"][task] is not None])
                else "-"
                for task in (0, 2, 4, 9)
            ]
            scores = f"{mean(means):.0f} ({min(means):.0f} to {max(means):.0f})"
            lines.append([env, variant, len(own), scores, *late, sum("broken" in row for row in own)])
    heads = ["", "", "seeds", "mean return (lowest to highest seed)", "task 1", "task 3", "task 5", "task 10", "broken"]
    return markdown(heads, lines)


def options() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--envs", nargs="+", default=["CartPole-v1"])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=2, help="runs at a time")
    add_cell_flag(parser)
    return parser


def main() -> None:
    args = parsed(options())
    if args.cell:
        print(json.dumps(run(**args.cell)))
        return
    cells: list[dict[str, Any]] = [
        {"env": env, "variant": variant, "seed": seed}
        for seed in args.seeds
        for env in args.envs
        for variant in args.variants
    ]
    os.environ["OMP_NUM_THREADS"] = "1"

    def run_and_record(cell: dict[str, Any]) -> None:
        if not is_done(NAME, cell):
            record(NAME, cell, in_a_process(__file__, cell))
            print("done:", cell, flush=True)

    if not args.table:
        with ThreadPoolExecutor(args.workers) as pool:
            list(pool.map(run_and_record, [SMOKE] if args.smoke else cells))
    print(table())


if __name__ == "__main__":
    main()
