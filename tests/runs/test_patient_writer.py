"""What cannot be written is left out, said once, and tried again; training goes on to the same weights."""

from __future__ import annotations

import errno
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.envs import FakeImageEnv

from helpers.weights import assert_same_weights
from sb3_stable_ppo.health import HealthCallback
from sb3_stable_ppo.health.last_healthy import LastHealthy
from sb3_stable_ppo.runs.folder import RunReader
from sb3_stable_ppo.runs.patient_writer import PatientWriter
from sb3_stable_ppo.snapshots import ActivationSnapshotCallback


def full(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_said_once_for_each_kind_and_the_next_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = PatientWriter(tmp_path)
    layer = {"conv": np.ones((2, 3, 3), np.float32)}
    with monkeypatch.context() as patch, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        patch.setattr(Path, "write_bytes", full)
        patch.setattr(Path, "open", full)
        for step in (1, 2):
            assert writer.snapshot(step, layer) == []
            writer.health(step, {"kl": 0.1})
    told = [str(each.message) for each in caught]
    assert len(told) == 2
    assert "a snapshot could not be written (OSError: [Errno 28] No space left on device). Training goes on" in told[0]
    assert "a line of health.jsonl could not be written" in told[1]
    assert RunReader(tmp_path).snapshot_steps() == []
    writer.snapshot(3, layer), writer.health(3, {"kl": 0.1})
    assert RunReader(tmp_path).snapshot_steps() == [3]
    assert [line["step"] for line in RunReader(tmp_path).health()] == [3]
    assert not list(tmp_path.rglob("*.part"))


def images() -> PPO:
    env = FakeImageEnv(screen_height=36, screen_width=36)
    env.observation_space.seed(1)  # from which it draws its pictures
    return PPO("CnnPolicy", env, n_steps=16, batch_size=16, n_epochs=1, seed=1, policy_kwargs=small())


def small() -> dict[str, Any]:
    return {"features_extractor_kwargs": {"features_dim": 8}}


@pytest.mark.filterwarnings("ignore:.*HealthCallback")
def test_a_run_whose_snapshots_and_health_cannot_be_written_trains_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock = images().learn(48)
    snapshots = ActivationSnapshotCallback(16, folder=tmp_path)
    monkeypatch.setattr("sb3_stable_ppo.runs.folder.write_atomically", full)
    with pytest.warns(UserWarning, match=r"a snapshot could not be written .*the next is tried again"):
        model = images().learn(48, callback=[snapshots, HealthCallback(folder=tmp_path)])
    assert_same_weights(stock, model)
    assert snapshots.activations  # in memory they are there


def test_a_healthy_model_that_cannot_be_saved_is_told_and_the_one_before_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=16, policy_kwargs={"net_arch": [8]})
    kept = LastHealthy(tmp_path)
    kept.keep(model)
    assert "is in" in kept.save(model)
    before = (tmp_path / "last_healthy.zip").read_bytes()
    model.num_timesteps = 16
    kept.keep(model)
    monkeypatch.setattr("torch.save", full)
    assert "could not be saved (OSError: [Errno 28] No space left on device)" in kept.save(model)
    assert (tmp_path / "last_healthy.zip").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["last_healthy.zip"]


def test_an_earlier_runs_file_that_cannot_be_renamed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "health.jsonl").write_text("")
    monkeypatch.setattr(Path, "rename", full)
    with pytest.warns(UserWarning, match="a new name for the earlier health.jsonl could not be written"):
        PatientWriter(tmp_path).set_aside("health.jsonl")
