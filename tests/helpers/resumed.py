"""Runs that are broken off and resumed, beside the same runs unbroken."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv

from helpers.weights import assert_same, assert_same_weights
from sb3_stable_ppo.checkpoints import RunCheckpoint, resume
from sb3_stable_ppo.checkpoints.env_state import env_state
from sb3_stable_ppo.checkpoints.random_state import random_state

CLOCK = ("time/fps", "time/time_elapsed")


class Killed(Exception):
    """In place of ``kill -9``: nothing is cleared up, and everything is built anew afterwards."""


class Killer(BaseCallback):
    """Breaks a run off within a rollout."""

    def __init__(self, at: int | None = None) -> None:
        super().__init__()
        self.at = at

    def _on_step(self) -> bool:
        if self.at is not None and self.num_timesteps >= self.at:
            raise Killed
        return True

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class Setup(NamedTuple):
    """How a run is built; each call builds it anew."""

    env: Callable[[], VecEnv]
    model: Callable[[VecEnv], BaseAlgorithm]
    callbacks: Callable[[], Sequence[BaseCallback]] = list
    formats: tuple[str, ...] = ("csv",)


def train(
    setup: Setup, folder: Path, total: int, every: int, kill_at: int | None = None, seed_all: int = 0, **learn: Any
) -> BaseAlgorithm:
    """
    :param seed_all: of the global generators, which a model without a seed leaves as they are
    """
    set_random_seed(seed_all)
    model = setup.model(setup.env())
    model.set_logger(configure(str(folder), list(setup.formats)))
    callbacks = [*setup.callbacks(), Killer(kill_at), RunCheckpoint(every=every)]
    if kill_at is None:
        return model.learn(total, callback=callbacks, **learn)
    with pytest.raises(Killed):
        model.learn(total, callback=callbacks, **learn)
    return model


def go_on(setup: Setup, folder: Path) -> BaseAlgorithm:
    return resume(folder, setup.env(), [*setup.callbacks(), Killer(), RunCheckpoint(every=10**9)])


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "progress.csv").open() as file:
        return [{key: value for key, value in row.items() if key not in CLOCK} for row in csv.DictReader(file)]


def assert_goes_on_exactly(setup: Setup, tmp_path: Path, total: int, every: int, kill_at: int, **learn: Any) -> None:
    """Weights, optimizers, random states and logs of a resumed run are those of the unbroken one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*bit for bit.*")
        _assert_goes_on_exactly(setup, tmp_path, total, every, kill_at, **learn)


def _assert_goes_on_exactly(setup: Setup, tmp_path: Path, total: int, every: int, kill_at: int, **learn: Any) -> None:
    unbroken = train(setup, tmp_path / "unbroken", total, every=every, **learn)
    random = random_state(unbroken.action_space)
    train(setup, tmp_path / "broken", total, every, kill_at, **learn)
    set_random_seed(12345)
    resumed = go_on(setup, tmp_path / "broken")
    assert resumed.num_timesteps == unbroken.num_timesteps
    assert resumed._n_updates == unbroken._n_updates
    assert_same_weights(unbroken, resumed)
    found = random_state(resumed.action_space)
    assert repr(found) == repr(random)
    assert_same({"torch": found["torch"]}, {"torch": random["torch"]}, "random")
    expected = rows(tmp_path / "unbroken")
    assert len(expected) > 1
    assert rows(tmp_path / "broken") == expected


def is_saved_whole(env: VecEnv) -> bool:
    return not env_state(env).problems
