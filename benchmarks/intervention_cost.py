"""
What interventions cost: training time with each against stock PPO, on small networks and on Pong's.

    python benchmarks/intervention_cost.py --seeds 0     # about 10 minutes on two cores

A model for each intervention, and two of stock, train in one process, a rollout and its update each, in a random order
in each round, so that all meet the same machine; the first round warms up and is not counted. What the two stock models
differ by is what this measurement cannot tell from nothing. CartPole with SB3's defaults and ``MlpPolicy``; Pong as
zoo_configs/stable_ppo.yml has it, uncompiled. Each cell is a line in results/intervention_cost.jsonl.
"""

from __future__ import annotations

import argparse
import json
import random
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

import sb3_stable_ppo as ours
from command import add_cell_flag, benchmark_parser, in_a_process, markdown, parsed
from overhead import build, compared
from record import finished, run_missing

NAME = "intervention_cost"
INTERVENTIONS: dict[str, Callable[[], BaseCallback | None]] = {
    "stock": lambda: None,
    "stock again": lambda: None,
    "L2Init": lambda: ours.L2Init(),
    "ShrinkPerturb": lambda: ours.ShrinkPerturb(),
    "WeightClip": lambda: ours.WeightClip(),
    "WeightProjection": lambda: ours.WeightProjection(),
    "SpectralCap": lambda: ours.SpectralCap(),
    "AdamReset": lambda: ours.AdamReset(),
    "ChurnReduction": lambda: ours.ChurnReduction(),
    "FeatureRegularization": lambda: ours.FeatureRegularization(),
    "ReDo": lambda: ours.ReDo(),
    "ReGraMa": lambda: ours.ReGraMa(),
    "ContinualBackprop": lambda: ours.ContinualBackprop(),
}
ROUNDS = {"cartpole": 12, "pong, shipped": 5}
ENVS = {"cartpole": "CartPole, SB3's defaults", "pong, shipped": "Pong as `stable_ppo.yml` has it, uncompiled"}
SMOKE = {"env": "smoke", "seed": 0}


def time_models(env: str, seed: int) -> dict[str, Any]:
    """Train all in turn; the seconds of each round, by intervention."""
    models: dict[str, PPO] = {name: build(env, "ppo", seed) for name in INTERVENTIONS}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    order, shuffled = list(models), random.Random(seed)
    warnings.simplefilter("ignore", UserWarning)  # of AdamReset and WeightProjection: this is about time
    for i in range(ROUNDS.get(env, 1) + 1):
        shuffled.shuffle(order)
        for name in order:
            model, callback = models[name], INTERVENTIONS[name]()
            start = time.perf_counter()
            model.learn(model.n_steps * model.n_envs, callback=callback, reset_num_timesteps=i == 0)
            seconds[name].append(round(time.perf_counter() - start, 4))
    return {"seconds": {name: values[1:] for name, values in seconds.items()}}


def table() -> str:
    """The table of docs/interventions.md: a row for each intervention, a column for each env."""
    rows, lines = finished(NAME), []
    envs = [env for env in ENVS if any(row["cell"]["env"] == env for row in rows)]
    for name in [*INTERVENTIONS][1:]:
        cells = []
        for env in envs:
            timed = [row["seconds"] for row in rows if row["cell"]["env"] == env and name in row["seconds"]]
            pairs = [np.stack([np.array(each[name]), np.array(each["stock"])], axis=1) for each in timed]
            cells.append(compared(np.concatenate(pairs)) if pairs else "-")
        lines.append([name, *cells])
    return markdown(["", *(ENVS[env] for env in envs)], lines)


def options() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--envs", nargs="+", default=list(ENVS), choices=list(ENVS))
    add_cell_flag(parser)
    return parser


def main() -> None:
    args = parsed(options())
    if args.cell:
        print(json.dumps(time_models(**args.cell)))
        return
    cells: list[dict[str, Any]] = [{"env": env, "seed": seed} for env in args.envs for seed in args.seeds]
    if args.smoke:
        cells = [SMOKE]
    run_missing(NAME, cells if not args.table else (), lambda cell: in_a_process(__file__, cell))
    print(table())


if __name__ == "__main__":
    main()
