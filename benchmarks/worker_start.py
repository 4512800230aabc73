"""
How long ``SubprocVecEnv`` takes until its envs have given their first observations, and what its processes hold then:
stock, and after ``preload_forkserver()``.

    python benchmarks/worker_start.py            # 8 envs of CartPole and of Pong, five rounds of each
    python benchmarks/worker_start.py --table

A cell runs in a process of its own, which has SB3 imported before the clock starts. The two take turns. Memory is what
the processes hold, with the forkserver, each page shared among those that share it (Linux' Pss). Each cell is a
line in results/worker_start.jsonl.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import ale_py
import gymnasium as gym
from stable_baselines3.common.env_util import make_atari_env, make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv

from command import add_cell_flag, benchmark_parser, markdown, parsed, run_in_processes, with_range
from record import finished
from sb3_stable_ppo.bench.training import descendants_mib
from sb3_stable_ppo.envs import preload_forkserver

NAME, ENVS, N_ENVS, ROUNDS = "worker_start", ("CartPole-v1", "PongNoFrameskip-v4"), 8, 5
WAYS = {False: "stock", True: "preloaded"}
SMOKE = {"env": "CartPole-v1", "n_envs": 2, "preloads": True, "number": 0}

gym.register_envs(ale_py)


def run(env: str, n_envs: int, preloads: bool, number: int) -> dict[str, float]:  # noqa: ARG001
    """Start the processes of an env, once, here."""
    make = make_atari_env if env.startswith("Pong") else make_vec_env
    start = time.perf_counter()
    if preloads:
        preload_forkserver()
    started = make(env, n_envs, seed=0, vec_env_cls=SubprocVecEnv)
    started.reset()
    seconds = time.perf_counter() - start
    mib = descendants_mib()
    started.close()
    return {"seconds": seconds, "mib": mib}


def cells() -> list[dict[str, Any]]:
    """All of them, turn by turn, and back in every second round."""
    ways: list[Sequence[bool]] = [(False, True), (True, False)]
    return [
        {"env": env, "n_envs": N_ENVS, "preloads": preloads, "number": number}
        for number in range(ROUNDS)
        for env in ENVS
        for preloads in ways[number % 2]
    ]


def table() -> str:
    """A row for each env and way."""
    found: dict[tuple[str, int, bool], list[Mapping[str, float]]] = {}
    for row in finished(NAME):
        cell = row["cell"]
        found.setdefault((cell["env"], cell["n_envs"], cell["preloads"]), []).append(row)
    lines = []
    for (env, n_envs, preloads), rows in sorted(found.items()):
        seconds, mib = ([row[name] for row in rows] for name in ("seconds", "mib"))
        shown = [with_range(seconds, median(seconds), ".2f"), with_range(mib, median(mib), ",.0f")]
        lines.append([f"{n_envs} x {env}", WAYS[preloads], len(rows), *shown])
    return markdown(["envs", "forkserver", "rounds", "seconds, median (range)", "MiB, median (range)"], lines)


def options() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    add_cell_flag(parser)
    return parser


def main() -> None:
    args = parsed(options())
    run_in_processes(__file__, NAME, args, [SMOKE] if args.smoke else cells(), run, table)


if __name__ == "__main__":
    main()
