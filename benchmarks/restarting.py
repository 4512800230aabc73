"""
What RestartingVecEnv costs while nobody dies: the time of SB3's SubprocVecEnv against it, on the same envs.

    python benchmarks/restarting.py

Two vec envs of each kind live in one process and take turns in a random order, round by round, so that all meet one
machine; the first round warms up and is not counted. All do the very same arithmetic, so what the two of one kind
differ by is what this measurement cannot tell from nothing. Steps: random actions, nothing but the vec env; training: a
rollout of PPO and its update, with SB3's defaults. Each cell is a line in results/restarting.jsonl.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_atari_env, make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv

from command import add_cell_flag, benchmark_parser, in_a_process, markdown, parsed
from overhead import compared
from record import finished, run_missing
from sb3_stable_ppo.envs import RestartingVecEnv

NAME = "restarting"
KINDS: dict[str, type[SubprocVecEnv]] = {
    "subproc": SubprocVecEnv,
    "subproc_again": SubprocVecEnv,
    "restarting": RestartingVecEnv,
    "restarting_again": RestartingVecEnv,
}
STEPS = {"CartPole-v1": 4000, "Hopper-v5": 2000, "PongNoFrameskip-v4": 500}
"""Of a vec env in a round."""
ROUNDS = {"steps": 40, "training": 20}
CELLS: list[dict[str, Any]] = [
    *({"what": "steps", "env": env, "n_envs": n_envs} for env in STEPS for n_envs in (2, 8)),
    {"what": "training", "env": "CartPole-v1", "n_envs": 8},
]
SMOKE: dict[str, Any] = {"what": "steps", "env": "CartPole-v1", "n_envs": 2, "rounds": 1, "steps": 100}


def make(kind: str, env: str, n_envs: int) -> VecEnv:
    builds = make_atari_env if env.startswith("Pong") else make_vec_env
    return builds(env, n_envs, seed=0, vec_env_cls=KINDS[kind])


def steps_of(env: VecEnv, steps: int) -> Callable[[], None]:
    """A round: so many steps, always the same actions."""
    env.action_space.seed(0)
    actions = np.array([[env.action_space.sample() for _ in range(env.num_envs)] for _ in range(steps)])
    env.reset()

    def play() -> None:
        for each in actions:
            env.step(each)

    return play


def training_of(env: VecEnv) -> Callable[[], None]:
    """A round: a rollout and its update."""
    model = PPO("MlpPolicy", env, seed=0, n_steps=256)

    def train() -> None:
        model.learn(model.n_steps * model.n_envs, reset_num_timesteps=False)

    return train


def time_envs(what: str, env: str, n_envs: int, rounds: int = 0, steps: int = 0) -> dict[str, Any]:
    """Let all take turns; the seconds of each round by kind."""
    envs = {kind: make(kind, env, n_envs) for kind in KINDS}
    play = {
        kind: steps_of(each, steps or STEPS[env]) if what == "steps" else training_of(each)
        for kind, each in envs.items()
    }
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    order, shuffled = list(KINDS), random.Random(0)
    for _ in range((rounds or ROUNDS[what]) + 1):
        shuffled.shuffle(order)
        for kind in order:
            start = time.perf_counter()
            play[kind]()
            seconds[kind].append(round(time.perf_counter() - start, 5))
    for each in envs.values():
        each.close()
    return {"seconds": {kind: values[1:] for kind, values in seconds.items()}}


def table() -> str:
    """A row for each cell: how much longer RestartingVecEnv takes."""
    lines = []
    for row in finished(NAME):
        cell = row["cell"]
        stock, again, ours, ours_again = (np.array(row["seconds"][kind]) for kind in KINDS)
        to_stock = compared(np.stack([ours + ours_again, stock + again], axis=1))
        to_itself = compared(np.stack([again, stock], axis=1))
        processor = row["machine"].partition(" with ")[0].removesuffix(" Processor")
        lines.append([cell["what"], cell["env"], cell["n_envs"], processor, len(stock), to_stock, to_itself])
    heads = ["", "env", "envs", "processor", "rounds", "RestartingVecEnv to SubprocVecEnv", "SubprocVecEnv to itself"]
    return markdown(heads, lines)


def options() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--what", nargs="+", default=list(ROUNDS), choices=list(ROUNDS))
    add_cell_flag(parser)
    return parser


def main() -> None:
    args = parsed(options())
    if args.cell:
        print(json.dumps(time_envs(**args.cell)))
        return
    cells = [SMOKE] if args.smoke else [cell for cell in CELLS if cell["what"] in args.what]
    run_missing(NAME, cells if not args.table else (), lambda cell: in_a_process(__file__, cell))
    print(table())


if __name__ == "__main__":
    main()
