"""
Learning, measured the same way for all: env, settings and seed make a run; each finished run is a line on record.

    python benchmarks/suite.py --settings batch layer --seeds 1 2 --steps 400000   # about 20 minutes a run and core
    python benchmarks/suite.py --table

Two runs at a time, each on one thread in a process of its own; what is on record is not run again. A line holds every
game that ended (step and return), what updates were like, and the games that checks of the model played: once its last
30 games of training are worth it, 20 games every 25,000 steps in SB3's own env, actions drawn as in training; a mean of
18 or more is confirmed with 20 fresh games. From step 500,000 on checks come every 100,000 steps. Of other games
(game_settings.py) and of vectors (vector_settings.py) a line holds means over sixtieths of the run, and 20 episodes of
the final model: games in SB3's own env with actions drawn as in training, vectors without draws.

With ``--checkpoints FOLDER`` a run that was stopped goes on from its last checkpoint, with new games; its line says at
which step. ::

    python benchmarks/suite.py --settings batch --seeds 1 --steps 3000000 --checkpoints logs/suite
"""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any, cast

import numpy as np
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

import sb3_stable_ppo
from command import add_cell_flag, benchmark_parser, markdown, parsed, run_in_processes
from game_settings import SETTINGS as OF_GAMES
from pong import make_pong
from record import finished
from sb3_stable_ppo import LRSchedulerCallback, RunCheckpoint, StablePPO, resume
from sb3_stable_ppo.common.checks import did_you_mean
from sb3_stable_ppo.common.errors import one_line
from sb3_stable_ppo.common.tensors import is_broken_distribution
from sb3_stable_ppo.envs import make_atari_vec_env
from sb3_stable_ppo.health.figures import inspect_policy, layer_figures
from sb3_stable_ppo.probes import ActivationProbe
from sb3_stable_ppo.schedules.learning_rate import counting_schedule
from suite_settings import SETTINGS as OF_PONG_AND_PENDULUM, Settings
from suite_watch import EPISODES, MARK, Watch
from vector_settings import SETTINGS as OF_VECTORS
from vitals import guard_counts

SETTINGS = {**OF_PONG_AND_PENDULUM, **OF_GAMES, **OF_VECTORS}

HIDDEN = ("pi.fc1", "vf.fc1")
NAME, GAMES, VECTORS, GAME = "suite", "suite_games", "suite_vectors", "PongNoFrameskip-v4"
ATARI = ("ale", "sb3")
STEPS = 400_000
CHECKPOINTS = "SUITE_CHECKPOINTS"
"""The environment variable by which ``--checkpoints`` reaches the processes that train."""
SMOKE: dict[str, Any] = {"settings": "shipped, PPO, CnnPolicy", "seed": 0, "steps": 1024}  # nothing to compile


def make_env(settings: Settings, seed: int) -> VecEnv:
    """The envs that settings are trained in; their Monitors report returns as they are."""
    if settings.env == "ale":
        return make_atari_vec_env(settings.env_id, settings.n_envs, seed)
    if settings.env == "sb3":
        return make_pong(seed, settings.n_envs, settings.env_id)
    env = make_vec_env(settings.env_id, settings.n_envs, seed)
    return VecNormalize(env, gamma=settings.options.get("gamma", 0.99)) if settings.env == "normalized" else env


def build(settings: Settings, seed: int) -> PPO:
    """A model as its settings say."""
    env = make_env(settings, seed)
    algorithm: type[PPO] = PPO if settings.algorithm == "PPO" else StablePPO
    policy = getattr(sb3_stable_ppo, settings.policy, settings.policy)
    return algorithm(policy, env, seed=seed, policy_kwargs=settings.policy_kwargs or None, **settings.options)


def run(settings: str, seed: int, steps: int) -> dict[str, Any]:
    """Train one, and tell what it came to."""
    th.set_num_threads(1)
    chosen = SETTINGS[settings]
    model, watch = build(chosen, seed), Watch(seed, chosen.env_id == GAME)
    counts = counting_schedule(model.learning_rate) is not None and not isinstance(model, StablePPO)
    callbacks: list[BaseCallback] = [watch, *([LRSchedulerCallback()] if counts else [])]
    broken = ""
    try:
        model = learn(model, steps, callbacks, checkpoint_folder(settings, seed, steps))
    except ValueError as error:  # with which SB3 ends a run whose policy has become NaN
        if not is_broken_distribution(error):
            raise
        broken = one_line(error, 100)
    seconds = watch.seconds
    probe = ActivationProbe(model.policy)
    layers = layer_figures(probe, inspect_policy(model.policy, probe, watch.rows).activations)
    games = [[int(step), round(ret, 1)] for step, ret in watch.games]
    return {
        **({"curve": binned(games, steps, chosen.bins)} if chosen.bins else {"games": games}),
        **({"final": play_final(model, chosen, seed)} if chosen.bins and not broken else {}),
        **({"broken": [model.num_timesteps, broken]} if broken else {}),
        **({"resumed_at": watch.resumed_at} if watch.resumed_at else {}),
        "updates": watch.updates,
        "checks": watch.checks,
        "live": {name: [int(layer["live"]), int(layer["units"])] for name, layer in layers.items()},
        **guard_counts(model),
        "minutes": round(seconds / 60, 2),
    }


def checkpoint_folder(settings: str, seed: int, steps: int) -> Path | None:
    """Where a run's checkpoints are, if they are asked for."""
    root = os.environ.get(CHECKPOINTS)
    return Path(root) / re.sub(r"\W+", "_", f"{settings} {seed} {steps}") if root else None


def learn(model: PPO, steps: int, callbacks: list[BaseCallback], folder: Path | None) -> PPO:
    """
    Train, from the last checkpoint if there is one.

    :param model: as it begins
    :param steps: of the whole run
    :param callbacks: ours
    :param folder: of the run's checkpoints; None: it has none
    :return: the model that has been trained
    """
    if folder is None:
        return model.learn(steps, callbacks)
    callbacks = [*callbacks, RunCheckpoint(folder=folder)]
    if any(folder.glob("checkpoints/*/")):
        return cast(PPO, resume(folder, model.get_env(), callbacks, steps))
    return model.learn(steps, callbacks)


def binned(games: Sequence[Sequence[float]], steps: int, bins: int) -> list[list[float]]:
    """
    >>> binned([[5, 1.0], [10, 3.0], [30, 7.0]], 40, 4)
    [[10, 2.0, 2], [30, 7.0, 1]]

    :param games: step and return of each
    :param steps: of the run
    :param bins: parts of it
    :return: of each part in which a game ended the step at its end, the mean return, and how many ended
    """
    returns: dict[int, list[float]] = {}
    for step, ret in games:
        returns.setdefault(min(math.ceil(step * bins / steps), bins), []).append(ret)
    return [[part * steps // bins, round(mean(found), 2), len(found)] for part, found in sorted(returns.items())]


def play_final(model: PPO, settings: Settings, seed: int) -> float:
    """Mean return of 20 episodes of a model that has been trained, in fresh envs: games drawn, in SB3's own env."""
    is_game = settings.env in ATARI
    settings = replace(settings, env="sb3", n_envs=8) if is_game else settings
    env, trained_in = make_env(settings, 100_000 + 1000 * seed), model.get_vec_normalize_env()
    if isinstance(env, VecNormalize) and trained_in is not None:
        env.training, env.norm_reward, env.obs_rms = False, False, trained_in.obs_rms
    score, _ = evaluate_policy(model, env, EPISODES, deterministic=not is_game)
    env.close()
    return round(float(np.mean(score)), 2)


def mean_return(games: list[list[float]], step: float, last: int = 100) -> float | None:
    """Of the last games that had ended by a step; None before the first."""
    ended = [ret for at, ret in games if at <= step][-last:]
    return mean(ended) if ended else None


def first_at(games: list[list[float]], mark: float, last: int = 30) -> int | None:
    """The step at which the mean of the last games first reached a mark; None if it did not."""
    returns = np.array([ret for _, ret in games])
    for index in range(last, len(returns) + 1):
        if returns[index - last : index].mean() >= mark:
            return int(games[index - 1][0])
    return None


def runs_of(env_id: str) -> list[dict[str, Any]]:
    """The runs on record of an env."""
    return [row for row in finished(NAME) if SETTINGS[row["cell"]["settings"]].env_id == env_id]


def table(runs: Sequence[Mapping[str, Any]]) -> str:
    """A row for each run of Pong."""
    marks = (100_000, 200_000, 300_000, 400_000, 500_000)
    lines = []
    for row in sorted(runs, key=lambda row: (row["cell"]["settings"], row["cell"]["seed"])):
        cell, games = row["cell"], row["games"]
        means = [None if step > cell["steps"] else mean_return(games, step) for step in marks]
        returns = ["-" if value is None else f"{value:.1f}" for value in means]
        reached = [f"{step // 1000}k" if (step := first_at(games, mark)) else "-" for mark in (0, 10, 18)]
        checked = next((f"{step // 1000:.0f}k" for step, _, confirmed in row["checks"] if confirmed >= MARK), "-")
        last = row["updates"][-1] if row["updates"] else {}
        state = [f"{last.get('approx_kl', math.nan):.3f}", f"{-last.get('entropy_loss', math.nan):.2f}"]
        live = " / ".join(str(row["live"][name][0]) for name in HIDDEN if name in row["live"]) or "-"
        state += [row.get("undone_updates", "-"), live]
        lines.append(
            [cell["settings"], cell["seed"], f"{cell['steps']:,}", *returns, " / ".join(reached), checked, *state]
        )
    heads = ["settings", "seed", "steps", *(f"at {step // 1000}k" for step in marks)]
    return markdown(
        [*heads, "last 30 at 0 / 10 / 18", "18 confirmed", "KL", "entropy", "undone", "hidden units live"], lines
    )


def options() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument(
        "--settings",
        nargs="+",
        default=["batch"],
        help="names of suite_settings.py, game_settings.py and vector_settings.py",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--workers", type=int, default=2, help="runs at a time")
    parser.add_argument("--checkpoints", help="folder for checkpoints every 10 minutes, from which a run goes on")
    add_cell_flag(parser)
    return parser


def main() -> None:
    parser = options()
    args = parsed(parser)
    for name in args.settings:
        if name not in SETTINGS:
            parser.error(f"there are no settings {name!r}{did_you_mean(name, SETTINGS)}")
    cells = [{"settings": name, "seed": seed, "steps": args.steps} for seed in args.seeds for name in args.settings]
    cells = [SMOKE] if args.smoke else cells
    os.environ["OMP_NUM_THREADS"] = "1"
    if args.checkpoints:
        os.environ[CHECKPOINTS] = str(Path(args.checkpoints).resolve())

    def name_of(cell: dict[str, Any]) -> str:
        settings = SETTINGS[cell["settings"]]
        return (GAMES if settings.env in ATARI else VECTORS) if settings.bins else NAME

    run_in_processes(__file__, name_of, args, cells, run, lambda: table(runs_of(GAME)), args.workers)


if __name__ == "__main__":
    main()
