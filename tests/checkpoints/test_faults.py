"""Disks that are full, folders that cannot be written, envs that fail, clocks that jump: no run is lost over them."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure

from helpers.resumed import rows
from helpers.weights import assert_same_weights
from sb3_stable_ppo.checkpoints import RunCheckpoint, resume
from sb3_stable_ppo.checkpoints.folder import newest_checkpoint


def ppo(env: Any = None) -> PPO:
    vec_env = make_vec_env("CartPole-v1", n_envs=2, seed=3) if env is None else env
    return PPO("MlpPolicy", vec_env, n_steps=32, batch_size=64, n_epochs=1, policy_kwargs={"net_arch": [8]}, seed=1)


def logged(folder: Path, env: Any = None) -> PPO:
    model = ppo(env)
    model.set_logger(configure(str(folder), ["csv"]))
    return model


def full(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


def failing_in_c(*_: Any, **__: Any) -> Any:
    raise RuntimeError("[enforce fail at inline_container.cc] . PytorchStreamWriter failed writing file")


MOMENTS: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "the folder is made": (Path, "mkdir", full),
    "the model is saved": (PPO, "save", full),
    "the env is saved": (Path, "write_bytes", full),
    "the log is copied": (shutil, "copyfile", full),
    "torch saves the rest": (th, "save", failing_in_c),
    "the files are synced": (os, "fsync", full),
    "the manifest is written": (Path, "write_text", full),
    "the folder gets its name": (Path, "rename", full),
}


class Fault(BaseCallback):
    """The disk is full for one checkpoint, the second."""

    def __init__(self, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.moment, self.monkeypatch, self.rollouts = moment, monkeypatch, 0

    def _on_rollout_start(self) -> None:
        self.rollouts += 1
        if self.rollouts == 3:
            self.monkeypatch.setattr(*MOMENTS[self.moment])

    def _on_step(self) -> bool:
        self.monkeypatch.undo()
        return True

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


@pytest.mark.parametrize("moment", MOMENTS)
def test_whenever_the_disk_is_full_the_run_goes_on_and_the_checkpoint_before_stays(moment: str, tmp_path: Path) -> None:
    stock = ppo().learn(192)
    with pytest.MonkeyPatch.context() as monkeypatch:
        fault = Fault(moment, monkeypatch)
        with pytest.warns(UserWarning, match=r"at step 128 could not be written .*Training goes on; the next is tried"):
            model = logged(tmp_path).learn(192, callback=[fault, RunCheckpoint(every=64, folder=tmp_path)])
    assert_same_weights(stock, model)
    found = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert found == ["000000000064", "000000000192"]  # nothing of a half-written one
    shutil.rmtree(tmp_path / "checkpoints" / "000000000192")
    assert newest_checkpoint(tmp_path).step == 64


def test_from_a_checkpoint_before_a_full_disk_the_run_goes_on_to_the_same_end(tmp_path: Path) -> None:
    unbroken = logged(tmp_path / "unbroken").learn(256, callback=RunCheckpoint(every=64))
    with pytest.MonkeyPatch.context() as monkeypatch:
        callbacks = [Fault("the manifest is written", monkeypatch), RunCheckpoint(every=64)]
        with pytest.warns(UserWarning, match="at step 128 could not be written"):
            logged(tmp_path / "broken").learn(192, callback=callbacks)
    shutil.rmtree(tmp_path / "broken" / "checkpoints" / "000000000192")
    resumed = resume(tmp_path / "broken", make_vec_env("CartPole-v1", n_envs=2, seed=3), total_timesteps=256)
    assert_same_weights(unbroken, resumed)
    assert rows(tmp_path / "broken") == rows(tmp_path / "unbroken")


def test_a_read_only_folder_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EROFS, "Read-only file system", str(tmp_path))

    monkeypatch.setattr(Path, "mkdir", refuse)  # a test that is root may write into any folder
    with pytest.warns(UserWarning, match=r"at step 64 could not be written \(OSError: .*Read-only file system"):
        model = ppo().learn(64, callback=RunCheckpoint(every=64, folder=tmp_path / "new"))
    assert model.num_timesteps == 64
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_folder_ends_no_run(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.warns(UserWarning, match=r"could not be written \((NotADirectory|FileExists)Error"):
        ppo().learn(64, callback=RunCheckpoint(every=64, folder=tmp_path / "taken"))
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_model_that_cannot_be_pickled_ends_no_run(tmp_path: Path) -> None:
    model = ppo()
    model.mine = threading.Lock()  # type: ignore[attr-defined]
    with pytest.warns(UserWarning, match=r"at step 64 could not be written \(TypeError: cannot pickle"):
        model.learn(64, callback=RunCheckpoint(every=64, folder=tmp_path))
    assert model.num_timesteps == 64
    assert list((tmp_path / "checkpoints").iterdir()) == []


class Failing(gym.Wrapper[Any, Any, Any, Any]):
    """Raises in one step, once."""

    at: int | None = None
    steps = 0

    def step(self, action: Any) -> Any:
        self.steps += 1
        if self.steps == self.at:
            raise RuntimeError("the simulator has lost its licence")
        return self.env.step(action)


def test_a_run_whose_env_raises_goes_on_from_its_checkpoint_once_the_env_is_repaired(tmp_path: Path) -> None:
    def env(at: int | None = None) -> Any:
        found = make_vec_env("CartPole-v1", n_envs=2, seed=3, wrapper_class=Failing)
        found.envs[1].at = at
        return found

    unbroken = logged(tmp_path / "unbroken", env()).learn(256, callback=RunCheckpoint(every=64))
    with pytest.raises(RuntimeError, match="the simulator has lost its licence"):
        logged(tmp_path / "broken", env(at=80)).learn(256, callback=RunCheckpoint(every=64))
    assert newest_checkpoint(tmp_path / "broken").step == 128  # 80 steps of 2 envs, and checkpoints each 64
    assert not list((tmp_path / "broken" / "checkpoints").glob(".*.part"))
    model = resume(tmp_path / "broken", env(), [Repair()])
    assert_same_weights(unbroken, model)
    assert rows(tmp_path / "broken") == rows(tmp_path / "unbroken")


class Repair(BaseCallback):
    """The env's state comes back with its fault, which is an attribute here."""

    def _on_rollout_start(self) -> None:
        for each in self.training_env.envs:  # type: ignore[attr-defined]
            each.at = None

    def _on_step(self) -> bool:
        return True

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
def test_a_clock_that_is_set_changes_neither_training_nor_checkpoints(
    jump: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock = ppo().learn(256)
    now, calls = time.time, [0]

    def jumping() -> float:
        calls[0] += 1
        return now() + jump * (calls[0] // 3)

    monkeypatch.setattr(time, "time", jumping)
    monkeypatch.setattr(time, "time_ns", lambda: int(1e9 * jumping()))
    checkpoint = RunCheckpoint(every=64, every_minutes=30, folder=tmp_path, keep=10)
    model = logged(tmp_path).learn(256, callback=checkpoint)
    assert calls[0] > 10
    assert_same_weights(stock, model)
    steps = sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir())
    assert steps == [64, 128, 192, 256]
    resumed = resume(tmp_path, make_vec_env("CartPole-v1", n_envs=2, seed=3), total_timesteps=320)
    assert_same_weights(ppo().learn(320), resumed)


def damage(folder: Path) -> None:
    (folder / "model.zip").write_bytes(b"")


@pytest.mark.parametrize("keep", [1, 2])
def test_damaged_checkpoints_take_no_place_among_those_that_are_kept(keep: int, tmp_path: Path) -> None:
    logged(tmp_path).learn(64 * 5, callback=RunCheckpoint(every=64, keep=5))
    root = tmp_path / "checkpoints"
    for step in (256, 320):
        damage(root / f"{step:012d}")
    env = make_vec_env("CartPole-v1", n_envs=2, seed=3)
    with pytest.warns(UserWarning, match="is damaged"):
        resume(tmp_path, env, callback=RunCheckpoint(every=64, keep=keep), total_timesteps=256)
    assert newest_checkpoint(tmp_path).step == 256
    kept = [f"{256 - 64 * each:012d}" for each in range(keep)]
    assert sorted(path.name for path in root.iterdir() if path.suffix == "") == sorted(kept)
    assert (root / "000000000320.1").is_dir()  # set aside, not removed


class Pointer:
    """A schedule that holds what cannot be pickled."""

    def __call__(self, progress: float) -> float:
        return 1e-3 * progress

    def __reduce__(self) -> Any:
        raise ValueError("ctypes objects containing pointers cannot be pickled")


def test_a_model_that_cannot_be_pickled_is_told_and_trains_on(tmp_path: Path) -> None:
    model = logged(tmp_path)
    model.learning_rate = Pointer()
    with pytest.warns(UserWarning, match=r"at step 64 could not be written \(ValueError: ctypes objects"):
        model.learn(128, callback=RunCheckpoint(every=64))
    assert model.num_timesteps == 128
