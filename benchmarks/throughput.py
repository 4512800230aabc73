"""
Training steps per second on Pong, rl_zoo3's settings: stock SB3, and our fast path one option after the other.

    python benchmarks/throughput.py --rounds 3     # about 25 minutes on two cores

Each cell trains in a process of its own: a warm-up rollout and update (compilation is in it and is reported apart),
then ``STEPS`` steps that are timed. Variants take turns within a round. Peak memory is the process's own with its
children. Each finished cell is a line in results/throughput.jsonl.
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

from pong import SETTINGS
from record import finished, is_done, record
from stable_baselines3 import PPO

from sb3_stable_ppo import StablePPO
from sb3_stable_ppo.envs import make_atari_env
from sb3_stable_ppo.rollout_buffer import TorchRolloutBuffer

NAME = "throughput"
PONG = "PongNoFrameskip-v4"
ZOO: dict[str, Any] = {**SETTINGS, "learning_rate": 2.5e-4}
STEPS, N_ENVS = 8 * 1024, 8

BUFFER: dict[str, Any] = {"rollout_buffer_class": TorchRolloutBuffer}
FUSED = {"optimizer_kwargs": {"fused": True}}
BUFFER_CL = {**BUFFER, "rollout_buffer_kwargs": {"memory_format": "channels_last"}}
CHANNELS_LAST = {**FUSED, "memory_format": "channels_last"}
BF16 = {**CHANNELS_LAST, "precision": "bf16"}
COMPILED = {**BF16, "compile": True}
VARIANTS: dict[str, tuple[Any, str, str, dict[str, Any], dict[str, Any]]] = {
    # algorithm, vec_env, policy, the algorithm's arguments, policy_kwargs
    "stock, DummyVecEnv": (PPO, "dummy", "CnnPolicy", {}, {}),
    "stock, SubprocVecEnv": (PPO, "subproc", "CnnPolicy", {}, {}),
    "stock, ALE env": (PPO, "ale", "CnnPolicy", {}, {}),
    "StableCnnPolicy batch, DummyVecEnv": (PPO, "dummy", "StableCnnPolicy", {}, {}),
    "+ ALE env": (PPO, "ale", "StableCnnPolicy", {}, {}),
    "+ buffer": (PPO, "ale", "StableCnnPolicy", BUFFER, {}),
    "+ fused Adam": (PPO, "ale", "StableCnnPolicy", BUFFER, FUSED),
    "+ channels_last": (PPO, "ale", "StableCnnPolicy", BUFFER_CL, CHANNELS_LAST),
    "+ bf16": (PPO, "ale", "StableCnnPolicy", BUFFER_CL, BF16),
    "+ compile": (PPO, "ale", "StableCnnPolicy", BUFFER_CL, COMPILED),
    "compile, fp32": (PPO, "ale", "StableCnnPolicy", BUFFER_CL, {**CHANNELS_LAST, "compile": True}),
    "all, StablePPO": (StablePPO, "ale", "StableCnnPolicy", BUFFER_CL, COMPILED),
    "all, StablePPO, StablePongPolicy": (StablePPO, "ale", "StablePongPolicy", BUFFER_CL, COMPILED),
}


def run(variant: str, seed: int) -> dict[str, float]:
    """Train one variant in this process."""
    algorithm, vec_env, policy, options, policy_kwargs = VARIANTS[variant]
    if policy.startswith("Stable"):
        policy_kwargs = {**policy_kwargs, "norm": "batch"}
        policy_class: Any = StablePPO.policy_aliases[policy]
    else:
        policy_class = policy
    env = make_atari_env(PONG, N_ENVS, seed, vec_env=vec_env)
    model = algorithm(policy_class, env, seed=seed, policy_kwargs=policy_kwargs or None, **ZOO, **options)
    start = time.perf_counter()
    model.learn(2 * ZOO["n_steps"] * N_ENVS)
    warm_up = time.perf_counter() - start
    start = time.perf_counter()
    model.learn(STEPS, reset_num_timesteps=False)
    seconds = time.perf_counter() - start
    env.close()
    peak = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024
    return {"steps_per_s": STEPS / seconds, "warm_up_s": warm_up, "peak_mib": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--cell", help="run one cell, given as JSON, and print its figures")
    args = parser.parse_args()
    if args.cell:
        print(json.dumps(run(**json.loads(args.cell))))
        return
    for seed in range(args.rounds):
        for variant in args.variants if seed % 2 == 0 else reversed(args.variants):
            cell = {"variant": variant, "seed": seed}
            if not is_done(NAME, cell):
                command = [sys.executable, __file__, "--cell", json.dumps(cell)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                record(NAME, cell, json.loads(done.stdout.splitlines()[-1]))
    rows = finished(NAME)
    base = median(row["steps_per_s"] for row in rows if row["cell"]["variant"] == "stock, DummyVecEnv")
    print("| | steps/s, median (range) | times stock | warm-up, s | peak memory, MiB |\n|---|---|---|---|---|")
    for variant in args.variants:
        found = [row for row in rows if row["cell"]["variant"] == variant]
        if found:
            speeds = sorted(row["steps_per_s"] for row in found)
            warm_up, peak = (median(row[name] for row in found) for name in ("warm_up_s", "peak_mib"))
            print(
                f"| {variant} | {median(speeds):.0f} ({speeds[0]:.0f} to {speeds[-1]:.0f}) | "
                f"{median(speeds) / base:.2f} | {warm_up:.0f} | {peak:.0f} |"
            )


if __name__ == "__main__":
    main()
