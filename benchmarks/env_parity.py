"""
ALE's vector env against SB3's own Atari envs, under one fixed policy: random actions.

    python benchmarks/env_parity.py     # about 3 minutes on two cores

Five games, three with lives. Returns and lengths of whole games, lengths of episodes (a life, where there are lives),
the share of steps with a reward, mean and standard deviation of the pixels. Each finished run is a line in
results/env_parity.jsonl; the end prints the table of docs/fast_path.md.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from record import finished, is_done, record
from sb3_stable_ppo.envs.atari import make_atari_env

NAME = "env_parity"
GAMES = ("Pong", "Boxing", "Breakout", "MsPacman", "SpaceInvaders")
N_ENVS, STEPS = 8, 4000


def run(game: str, vec_env: str) -> dict[str, Any]:
    """Play at random and take notes."""
    env = make_atari_env(f"{game}NoFrameskip-v4", N_ENVS, seed=0, vec_env=vec_env)
    rng = np.random.default_rng(0)
    env.reset()
    returns: list[float] = []
    lengths: list[float] = []
    episodes, age, rewarded = [], np.zeros(N_ENVS), 0
    pixels: list[tuple[float, float]] = []
    start = time.perf_counter()
    for step in range(STEPS):
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
        "rewarded": rewarded / (STEPS * N_ENVS),
        "pixel_mean": float(np.mean([mean for mean, _ in pixels])),
        "pixel_std": float(np.mean([std for _, std in pixels])),
        "steps_per_s": STEPS * N_ENVS / seconds,
    }


def summary(values: list[Any]) -> list[float]:
    """Mean and its standard error."""
    return [float(np.mean(values)), float(np.std(values) / np.sqrt(len(values)))]


def main() -> None:
    for game in GAMES:
        for vec_env in ("dummy", "ale"):
            if not is_done(NAME, {"game": game, "vec_env": vec_env}):
                record(NAME, {"game": game, "vec_env": vec_env}, run(game, vec_env))
    print("| game | env | games | return | frames a game | steps an episode | rewarded steps | pixels |")
    print("|---|---|---|---|---|---|---|---|")
    for row in finished(NAME):
        returns, frames, episode = (f"{row[k][0]:.1f} ± {row[k][1]:.1f}" for k in ("return", "frames", "episode_steps"))
        print(
            f"| {row['cell']['game']} | {row['cell']['vec_env']} | {row['games']} | {returns} | {frames} | {episode} | "
            f"{row['rewarded']:.4f} | {row['pixel_mean']:.1f}, {row['pixel_std']:.1f} |"
        )


if __name__ == "__main__":
    main()
