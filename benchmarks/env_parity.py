"""
ALE's vector env against SB3's own Atari envs, under one fixed policy: random actions.

    python benchmarks/env_parity.py     # about 3 minutes on two cores

Five games, three with lives. Returns and lengths of whole games, lengths of episodes (a life, where there are lives),
the share of steps with a reward, mean and standard deviation of the pixels. Each finished run is a line in
results/env_parity.jsonl; the end prints the table of docs/fast_path.md.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from command import benchmark_parser, markdown, parsed
from record import finished, run_missing
from sb3_stable_ppo.envs.atari import make_atari_vec_env

NAME = "env_parity"
GAMES = ("Pong", "Boxing", "Breakout", "MsPacman", "SpaceInvaders")
N_ENVS, STEPS = 8, 4000


def run(game: str, vec_env: str, steps: int = STEPS) -> dict[str, Any]:
    """Play at random and take notes."""
    env = make_atari_vec_env(f"{game}NoFrameskip-v4", N_ENVS, seed=0, vec_env=vec_env)
    rng = np.random.default_rng(0)
    env.reset()
    returns: list[float] = []
    lengths: list[float] = []
    episodes, age, rewarded = [], np.zeros(N_ENVS), 0
    pixels: list[tuple[float, float]] = []
    start = time.perf_counter()
    for step in range(steps):
        observations, rewards, dones, infos = env.step(rng.integers(0, env.action_space.n, N_ENVS))  # type: ignore[attr-defined]
        age += 1
        rewarded += int((rewards != 0).sum())
        for index in np.flatnonzero(dones):
            episodes.append(age[index])
            age[index] = 0
            if "episode" in infos[index]:
                returns.append(infos[index]["episode"]["r"])
                lengths.append(infos[index]["episode"]["l"])
        if step % 50 == 0:
            newest = np.asarray(observations)[:, -1]
            pixels.append((newest.mean(), newest.std()))
    seconds = time.perf_counter() - start
    env.close()
    return {
        "games": len(returns),
        "return": summary(returns),
        "frames": summary(lengths),
        "episode_steps": summary(episodes),
        "rewarded": rewarded / (steps * N_ENVS),
        "pixel_mean": float(np.mean([mean for mean, _ in pixels])),
        "pixel_std": float(np.mean([std for _, std in pixels])),
        "steps_per_s": steps * N_ENVS / seconds,
    }


def summary(values: list[Any]) -> list[float] | None:
    """Mean and its standard error; None if there are no values."""
    if not values:
        return None
    return [float(np.mean(values)), float(np.std(values) / np.sqrt(len(values)))]


def table() -> str:
    """The table of docs/fast_path.md."""
    lines = []
    for row in finished(NAME):
        cell = [row["cell"]["game"], {"dummy": "SB3", "ale": "ALE"}[row["cell"]["vec_env"]], row["games"]]
        summaries = [row[name] for name in ("return", "frames", "episode_steps")]
        cell += ["-" if found is None else f"{found[0]:.1f} ± {found[1]:.1f}" for found in summaries]
        lines.append([*cell, f"{row['rewarded']:.4f}", f"{row['pixel_mean']:.1f}, {row['pixel_std']:.1f}"])
    heads = ["game", "env", "games", "return", "frames a game", "steps an episode", "rewarded steps", "pixels"]
    return markdown(heads, lines)


def options() -> argparse.ArgumentParser:
    return benchmark_parser(__doc__)


def main() -> None:
    args = parsed(options())
    cells: list[dict[str, Any]] = [{"game": game, "vec_env": vec_env} for game in GAMES for vec_env in ("dummy", "ale")]
    if args.smoke:
        cells = [{"game": "Breakout", "vec_env": "ale", "steps": 50}]
    run_missing(NAME, cells if not args.table else (), lambda cell: run(**cell))
    print(table())


if __name__ == "__main__":
    main()
