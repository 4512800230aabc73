"""
What the guards cost: StablePPO (all guards on) against stock PPO, same policy, same env, same seed, in turn.

    python benchmarks/overhead.py --pairs 5     # about 12 minutes on two cores

Each run is a process of its own, so that its peak memory is its own; only ``learn()`` is timed. CartPole with SB3's
defaults and ``MlpPolicy``, Pong as in zoo_configs/stable_ppo.yml. Each finished run is a line in
results/overhead.jsonl.
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
STEPS = {"cartpole": 2048 * 10, "pong": 1024 * 8}


def run(env: str, algo: str, seed: int) -> dict[str, float]:
    """Train once in this process."""
    algorithm: Any = StablePPO if algo == "stable_ppo" else PPO
    if env == "pong":
        model = algorithm(StablePongPolicy, make_pong(seed), seed=seed, **SETTINGS)
    else:
        model = algorithm("MlpPolicy", "CartPole-v1", seed=seed)
    start = time.perf_counter()
    model.learn(STEPS[env])
    seconds = time.perf_counter() - start
    undone = getattr(model, "_undone_updates", 0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "steps_per_s": STEPS[env] / seconds, "peak_mib": peak, "undone_updates": undone}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--envs", nargs="+", default=list(STEPS), choices=list(STEPS))
    parser.add_argument("--cell", help="run one cell, given as JSON, and print its figures")
    args = parser.parse_args()
    if args.cell:
        print(json.dumps(run(**json.loads(args.cell))))
        return
    for env in args.envs:
        for seed in range(args.pairs):
            for algo in ("ppo", "stable_ppo") if seed % 2 else ("stable_ppo", "ppo"):
                cell = {"env": env, "algo": algo, "seed": seed}
                if not is_done(NAME, cell):
                    command = [sys.executable, __file__, "--cell", json.dumps(cell)]
                    done = subprocess.run(command, check=True, capture_output=True, text=True)
                    record(NAME, cell, json.loads(done.stdout.splitlines()[-1]))
    for env in args.envs:
        rows = {(row["cell"]["algo"], row["cell"]["seed"]): row for row in finished(NAME) if row["cell"]["env"] == env}
        seeds = sorted({seed for _, seed in rows})
        ratios = sorted(rows["stable_ppo", s]["seconds"] / rows["ppo", s]["seconds"] for s in seeds)
        memory = sorted(rows["stable_ppo", s]["peak_mib"] - rows["ppo", s]["peak_mib"] for s in seeds)
        print(
            f"{env}: time {median(ratios):.4f} of stock ({ratios[0]:.4f} to {ratios[-1]:.4f}), "
            f"memory {median(memory):+.0f} MiB ({memory[0]:+.0f} to {memory[-1]:+.0f}), {len(seeds)} pairs, "
            f"undone {sum(rows['stable_ppo', s]['undone_updates'] for s in seeds)}"
        )


if __name__ == "__main__":
    main()
