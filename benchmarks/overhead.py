"""
What the guards cost: StablePPO (all guards on) against stock PPO, same policy, same env, same seed.

    python benchmarks/overhead.py --seeds 0 1 2     # about 15 minutes on two cores

Time: two models of each algorithm train in one process, a rollout and its update each, in a random order in each round,
so that all meet the same machine; the first round warms up and is not counted. All four do the very same arithmetic, so
what the two models of one algorithm differ by is what this measurement cannot tell from nothing. Memory: each algorithm
alone in a process of its own. CartPole with SB3's defaults and ``MlpPolicy``; Pong with the policy and the settings of
zoo_configs/stable_ppo_batchnorm.yml, on SB3's own env in fp32, on the fast path as shipped, and that compiled; and as
stable_ppo.yml has it. Each finished cell is a line in results/overhead.jsonl.
"""

from __future__ import annotations

import argparse
import random
import resource
import time
from typing import Any

import numpy as np
from stable_baselines3 import PPO

from command import add_cell_flag, benchmark_parser, markdown, parsed, run_in_processes
from pong import FAST_PATH, SETTINGS, TORCHS_WAY, make_pong
from record import finished
from sb3_stable_ppo import StableMlpPolicy, StablePongPolicy, StablePPO
from sb3_stable_ppo.envs.atari import make_atari_vec_env
from suite_settings import SHIPPED
from vitals import guard_counts

NAME = "overhead"
MODELS: dict[str, Any] = {"ppo": PPO, "ppo_again": PPO, "stable_ppo": StablePPO, "stable_ppo_again": StablePPO}
ROUNDS = {
    "cartpole": 40,
    "cartpole, lean": 40,
    "pong": 12,
    "pong, fast path": 24,
    "pong, compiled": 24,
    "pong, shipped": 12,
}
SMOKE = {"env": "smoke", "seed": 0, "models": 4}
"""CartPole with rollouts of 64 steps, two rounds."""


def build(env: str, algo: str, seed: int) -> PPO:
    """A model that has not trained yet."""
    algorithm: type[PPO] = MODELS[algo]
    if env == "smoke":
        return algorithm("MlpPolicy", "CartPole-v1", seed=seed, n_steps=64)
    if env == "cartpole":
        return algorithm("MlpPolicy", "CartPole-v1", seed=seed)
    if env == "cartpole, lean":
        lean = {"lean": True, "optimizer_kwargs": {"fused": True}}
        return algorithm(StableMlpPolicy, "CartPole-v1", seed=seed, policy_kwargs=lean)
    if env == "pong":
        return algorithm(StablePongPolicy, make_pong(seed), seed=seed, policy_kwargs=TORCHS_WAY, **SETTINGS)
    games = make_atari_vec_env("PongNoFrameskip-v4", 8, seed)
    if env == "pong, shipped":
        policy_kwargs = {**SHIPPED.policy_kwargs, "compile": False}  # as the command line trains it
        numbers = {**SHIPPED.options, "learning_rate": 2.5e-4}  # a schedule would be one for all models
        return algorithm(StablePongPolicy, games, seed=seed, policy_kwargs=policy_kwargs, **numbers)
    options = {**FAST_PATH, "policy_kwargs": {**FAST_PATH["policy_kwargs"], "compile": env == "pong, compiled"}}
    return algorithm(StablePongPolicy, games, seed=seed, **SETTINGS, **options)


def time_models(env: str, seed: int) -> dict[str, Any]:
    """Train all in turn; the seconds of each round by model."""
    models = {name: build(env, name, seed) for name in MODELS}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    order, shuffled = list(models), random.Random(seed)
    for i in range(ROUNDS.get(env, 1) + 1):
        shuffled.shuffle(order)
        for name in order:
            start = time.perf_counter()
            model = models[name]
            model.learn(model.n_steps * model.n_envs, reset_num_timesteps=i == 0)
            seconds[name].append(round(time.perf_counter() - start, 4))
    return {
        "seconds": {name: values[1:] for name, values in seconds.items()},
        "undone_updates": guard_counts(models["stable_ppo"])["undone_updates"],
    }


def peak(env: str, algo: str, seed: int) -> dict[str, float]:
    """Train one for two rounds; the process's peak memory."""
    model = build(env, algo, seed)
    model.learn(2 * model.n_steps * model.n_envs)
    return {"peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def run(env: str, seed: int, models: int, algo: str = "ppo") -> dict[str, Any]:
    """A cell: all models in turn, or one alone for its memory."""
    return peak(env, algo, seed) if models == 1 else time_models(env, seed)


def compared(rounds: np.ndarray) -> str:
    """
    How much longer one took than the other, with a 95% interval over resampled rounds.

    :param rounds: seconds, shape (rounds, 2): the one and the other
    """
    drawn = np.random.default_rng(0).integers(len(rounds), size=(4000, len(rounds)))
    totals = rounds[drawn].sum(axis=1)
    low, high = np.percentile(totals[:, 0] / totals[:, 1], [2.5, 97.5])
    first, second = rounds.sum(axis=0)
    return f"{first / second - 1:+.1%} ({low - 1:+.1%} to {high - 1:+.1%})"


def table() -> str:
    """The table of docs/guards.md, all seeds together."""
    # Cells without "models" are from an earlier form of this benchmark, which timed single pairs
    rows, lines = [row for row in finished(NAME) if "models" in row["cell"]], []
    for env in dict.fromkeys(row["cell"]["env"] for row in rows):
        timed = [row for row in rows if row["cell"]["env"] == env and row["cell"]["models"] == 4]
        alone = [row for row in rows if row["cell"]["env"] == env and row["cell"]["models"] == 1]
        if timed:
            ppo, again, ours, ours_again = (np.concatenate([row["seconds"][name] for row in timed]) for name in MODELS)
            to_stock = compared(np.stack([ours + ours_again, ppo + again], axis=1))
            to_itself = compared(np.stack([again, ppo], axis=1))
            mib = {row["cell"]["algo"]: row["peak_mib"] for row in alone}
            more = f"{round(mib['stable_ppo']) - round(mib['ppo']):+d} MiB" if len(mib) == 2 else "-"
            lines.append([env, len(ppo), to_stock, to_itself, more, sum(row["undone_updates"] for row in timed)])
    return markdown(["", "rounds", "StablePPO to stock", "stock to itself", "peak memory", "undone"], lines)


def options() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--envs", nargs="+", default=list(ROUNDS), choices=list(ROUNDS))
    add_cell_flag(parser)
    return parser


def main() -> None:
    args = parsed(options())
    cells: list[dict[str, Any]] = []
    for env in args.envs:
        cells += [{"env": env, "seed": seed, "models": 4} for seed in args.seeds]
        cells += [{"env": env, "algo": algo, "seed": args.seeds[0], "models": 1} for algo in ("ppo", "stable_ppo")]
    if args.smoke:
        cells = [SMOKE]
    run_in_processes(__file__, NAME, args, cells, run, table)


if __name__ == "__main__":
    main()
