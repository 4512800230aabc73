"""
What the guards cost: StablePPO (all guards on) against stock PPO, same policy, same env, same seed.

    python benchmarks/overhead.py --pairs 5     # about 12 minutes on two cores

Time: both train in one process, a rollout and its update each in turn, so that both meet the same machine; the first
round warms up and is not counted. Memory: each alone in a process of its own. CartPole with SB3's defaults and
``MlpPolicy``, Pong as in zoo_configs/stable_ppo.yml. Each finished cell is a line in results/overhead.jsonl.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from statistics import median
from typing import Any

from pong import SETTINGS, make_pong
from record import finished, is_done, record
from stable_baselines3 import PPO

from sb3_stable_ppo import StablePongPolicy, StablePPO

NAME = "overhead"
ALGORITHMS: dict[str, Any] = {"ppo": PPO, "stable_ppo": StablePPO}
ROUNDS = {"cartpole": 20, "pong": 8}


def build(env: str, algo: str, seed: int) -> PPO:
    """A model that has not trained yet."""
    if env == "pong":
        model: PPO = ALGORITHMS[algo](StablePongPolicy, make_pong(seed), seed=seed, **SETTINGS)
    else:
        model = ALGORITHMS[algo]("MlpPolicy", "CartPole-v1", seed=seed)
    return model


def time_pair(env: str, seed: int) -> dict[str, Any]:
    """Train both in turn; seconds of each round."""
    models = {algo: build(env, algo, seed) for algo in ALGORITHMS}
    seconds: dict[str, list[float]] = {algo: [] for algo in models}
    for i in range(ROUNDS[env] + 1):
        for algo in sorted(models, reverse=bool(i % 2)):
            start = time.perf_counter()
            model = models[algo]
            model.learn(model.n_steps * model.n_envs, reset_num_timesteps=i == 0)
            seconds[algo].append(time.perf_counter() - start)
    rounds = {algo: values[1:] for algo, values in seconds.items()}
    steps = models["ppo"].num_timesteps * ROUNDS[env] / (ROUNDS[env] + 1)
    return {
        "ratio": sum(rounds["stable_ppo"]) / sum(rounds["ppo"]),
        "ratio_of_medians": median(rounds["stable_ppo"]) / median(rounds["ppo"]),
        **{f"{algo}_steps_per_s": steps / sum(values) for algo, values in rounds.items()},
        "undone_updates": models["stable_ppo"]._undone_updates,  # type: ignore[attr-defined]
    }


def peak(env: str, algo: str, seed: int) -> dict[str, float]:
    """Train one for two rounds; the process's peak memory."""
    model = build(env, algo, seed)
    model.learn(2 * model.n_steps * model.n_envs)
    return {"peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def in_a_process(cell: dict[str, Any]) -> None:
    """Run a cell that is not on record."""
    if not is_done(NAME, cell):
        command = [sys.executable, __file__, "--cell", json.dumps(cell)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        record(NAME, cell, json.loads(done.stdout.splitlines()[-1]))


def report(env: str) -> None:
    """Medians and spreads of what is on record."""
    rows = [row for row in finished(NAME) if row["cell"]["env"] == env]
    pairs = [row for row in rows if "algo" not in row["cell"]]
    memory = {algo: [row["peak_mib"] for row in rows if row["cell"].get("algo") == algo] for algo in ALGORITHMS}
    for figure in ("ratio", "ratio_of_medians"):
        values = sorted(row[figure] for row in pairs)
        print(f"{env}: {figure} {median(values):.4f} ({values[0]:.4f} to {values[-1]:.4f}), {len(pairs)} pairs")
    print(f"{env}: undone {sum(row['undone_updates'] for row in pairs)}, peak memory in MiB {memory}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--envs", nargs="+", default=list(ROUNDS), choices=list(ROUNDS))
    parser.add_argument("--cell", help="run one cell, given as JSON, and print its figures")
    args = parser.parse_args()
    if args.cell:
        cell = json.loads(args.cell)
        print(json.dumps(peak(**cell) if "algo" in cell else time_pair(**cell)))
        return
    for env in args.envs:
        for seed in range(args.pairs):
            in_a_process({"env": env, "seed": seed})
        for algo in ALGORITHMS:
            in_a_process({"env": env, "algo": algo, "seed": 0})
    for env in args.envs:
        report(env)


if __name__ == "__main__":
    main()
