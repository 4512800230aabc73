"""
One measurement: a variant is trained in this process, and timed.
"""

from __future__ import annotations

import importlib
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gymnasium as gym
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from sb3_stable_ppo.algorithms import StablePPO
from sb3_stable_ppo.bench.variants import ATARI, Variant, kind_of
from sb3_stable_ppo.common.packages import import_packages
from sb3_stable_ppo.envs.atari import make_atari_vec_env
from sb3_stable_ppo.envs.envpool_vec_env import EnvPoolVecEnv
from sb3_stable_ppo.health.callback import HealthCallback

WARM_UP = 2
"""Rollouts with their updates before the clock starts; compilation is in them."""


class Clock(BaseCallback):
    """Begins to time after the warm-up, and ends when training has ended, the last update included."""

    def _on_training_start(self) -> None:
        self.n_rollouts, self.start = 0, time.perf_counter()

    def _on_rollout_start(self) -> None:
        if self.n_rollouts == WARM_UP:
            now = time.perf_counter()
            self.warm_up, self.start, self.steps_before = now - self.start, now, self.num_timesteps
        self.n_rollouts += 1

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self.seconds = time.perf_counter() - self.start
        self.steps = self.num_timesteps - self.steps_before


def train(
    variant: str,
    env_id: str,
    n_envs: int,
    steps: int,
    seed: int,
    numbers: Mapping[str, Any] | None = None,
    gym_packages: Sequence[str] = (),
) -> dict[str, float]:
    """
    Train in this process: two rollouts with their updates to warm up, then ``steps`` timed.

    :param variant: the name of one of the variants of the env's kind
    :param env_id: a Gymnasium id
    :param n_envs: envs at once
    :param steps: so many are timed, in whole rollouts
    :param seed: of model and envs
    :param numbers: of PPO, in place of the kind's own
    :param gym_packages: modules to import, which register the env
    :return: ``steps_per_s``, ``warm_up_s``, and ``peak_mib``: this process' peak, and what its children hold at the end
    """
    import_packages(gym_packages)
    named = {each.name: each for each in kind_of(env_id).variants.values()}
    return train_variant(named[variant], env_id, n_envs, steps, seed, numbers)


def train_variant(
    variant: Variant, env_id: str, n_envs: int, steps: int, seed: int, numbers: Mapping[str, Any] | None = None
) -> dict[str, float]:
    """
    As :func:`train`, of any variant.

    :param variant: whose algorithm has PPO's arguments
    """
    kind = kind_of(env_id)
    if kind is ATARI:
        env: VecEnv = make_atari_vec_env(env_id, n_envs, seed, vec_env=variant.vec_env)
    elif variant.vec_env == "envpool":
        env = EnvPoolVecEnv(env_id, n_envs, seed)
    else:
        env_class = SubprocVecEnv if variant.vec_env == "subproc" else DummyVecEnv
        # its spec, as rl_zoo3 has it: the processes of SubprocVecEnv do not know an id that `gym_packages` register
        env = make_vec_env(gym.spec(env_id).make, n_envs, seed, vec_env_cls=env_class)
    given = {**kind.numbers, **(numbers or {})}
    rollout = given["n_steps"] * n_envs
    given["batch_size"] = min(given["batch_size"], rollout)
    # by alias where the algorithm has one: stock PPO knows its own policies, ours are given as classes
    aliases = variant.algorithm.policy_aliases
    policy: Any = variant.policy if variant.policy in aliases else StablePPO.policy_aliases[variant.policy]
    model = variant.algorithm(
        policy, env, seed=seed, policy_kwargs=dict(variant.policy_kwargs) or None, **given, **variant.options
    )
    clock = Clock()
    with TemporaryDirectory() as folder:
        watching: list[BaseCallback] = [HealthCallback(folder=folder)] if variant.is_watched else []
        model.learn(WARM_UP * rollout + steps, callback=[*watching, clock])
    peak = own_peak_mib() + descendants_mib()
    env.close()
    return {"steps_per_s": clock.steps / clock.seconds, "warm_up_s": clock.warm_up, "peak_mib": peak}


def own_peak_mib() -> float:
    """The most memory that this process has held. NaN where the system does not tell, as Windows."""
    with suppress(ImportError):
        resource = importlib.import_module("resource")
        most: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB elsewhere
    return math.nan


def descendants_mib() -> float:
    """
    What the processes that this one has begun, directly or not, hold now, each page shared among those that share it
    (Linux' Pss): the envs of SubprocVecEnv, torch's compile workers. 0 where there is no /proc.
    """
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended since
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found, kib = {os.getpid()}, 0
    for _ in parents:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        if not more:
            break
        found |= more
    for pid in found - {os.getpid()}:
        with suppress(OSError):
            kib += int(Path(f"/proc/{pid}/smaps_rollup").read_text().partition("Pss:")[2].split()[0])
    return kib / 1024
