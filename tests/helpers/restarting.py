"""Vec envs of workers that die."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from helpers.dying_env import DyingEnv
from sb3_stable_ppo.envs.restarting_vec_env import RestartingVecEnv


@pytest.fixture(name="make")
def restarting_envs() -> Iterator[Any]:
    """Makes vec envs, and looks whether their processes are gone at the end."""
    made: list[RestartingVecEnv] = []

    def make_one(n_envs: int = 2, seed: int | None = 7, env_fn: Any = DyingEnv, **options: Any) -> RestartingVecEnv:
        env = RestartingVecEnv([env_fn] * n_envs, **{"start_method": "fork", **options})
        made.append(env)
        if seed is not None:
            env.seed(seed)
        return env

    yield make_one
    for env in made:
        processes = env.processes
        env.close()
        assert [process for process in processes if process.is_alive()] == []


def kill(env: RestartingVecEnv, index: int) -> None:
    """As the system does it that lacks memory."""
    os.kill(env.processes[index].pid, signal.SIGKILL)
    env.processes[index].join()
