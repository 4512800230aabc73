"""Runs of ``train`` that are broken off, and what they left."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
import yaml

from helpers.resumed import rows
from helpers.weights import assert_same
from sb3_stable_ppo.cli.app import main

NET = {"net_arch": [8]}
ENTRY: dict[str, Any] = {"policy": "MlpPolicy", "policy_kwargs": NET, "n_envs": 2}
ON_POLICY: dict[str, Any] = {**ENTRY, "n_steps": 16, "n_timesteps": 256}
OFF_POLICY: dict[str, Any] = {**ENTRY, "n_envs": 1, "n_timesteps": 200, "learning_starts": 40, "batch_size": 16}
PPO = {**ON_POLICY, "batch_size": 16, "n_epochs": 1}
CARTPOLE = ["--env", "CartPole-v1", "--algo", "ppo", "--seed", "1", "--eval-freq", "64", "--eval-episodes", "1"]
FAILS, SIGNAL = "helpers.callbacks.FailsOnce", "helpers.callbacks.SignalOnce"


def write_entry(folder: Path, env: str, entry: dict[str, Any], *callbacks: Any) -> list[str]:
    """The flag for a configuration of one env."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = [*entry.get("callback", []), *callbacks]
    path = folder / "config.yml"
    path.write_text(yaml.safe_dump({env: {**entry, **({"callback": listed} if listed else {})}}))
    return ["--conf-file", str(path)]


def broken_at(folder: Path, at: int, callback: str = FAILS, **options: Any) -> dict[str, Any]:
    """A callback for a configuration, which acts once."""
    return {callback: {"at": at, "mark": str(folder / "mark"), **options}}


def run_folder(folder: Path, number: int = 1) -> Path:
    """The folder of a run in a log folder ``logs``."""
    (found,) = (folder / "logs").glob(f"*/*_{number}")
    return found


def facts_of(folder: Path) -> dict[str, Any]:
    """What run.json says."""
    facts: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return facts


def train(folder: Path, *flags: str) -> int:
    """``train`` into ``logs``, quietly."""
    quiet = ["--no-report", "--no-progress", "--verbose", "0"]
    return main(["train", *flags, "-f", str(folder / "logs"), *quiet])


def break_off(folder: Path) -> Path:
    """The folder of a run of CartPole that has failed at step 150 of 256."""
    config = write_entry(folder, "CartPole-v1", PPO, broken_at(folder, 150))
    with pytest.raises(RuntimeError):
        train(folder, *CARTPOLE, "--checkpoint-steps", "64", *config)
    return run_folder(folder)


def tensors(path: Path) -> dict[str, Any]:
    """All weights, and the state of all optimizers, in a model's zip."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".pth")]
        return {name: th.load(io.BytesIO(archive.read(name)), weights_only=False) for name in names}


def episodes(folder: Path) -> list[list[str]]:
    """Of the monitors, without their times."""
    files = sorted(folder.glob("*.monitor.csv"))
    return [[line.rsplit(",", 1)[0] for line in path.read_text().splitlines()[2:]] for path in files]


def assert_same_runs(first: Path, second: Path, env: str) -> None:
    """Weights, optimizers, logs, episodes and evaluations are the same to the last bit."""
    assert_same(tensors(first / f"{env}.zip"), tensors(second / f"{env}.zip"), env)
    assert len(tensors(first / f"{env}.zip")) > 1
    assert rows(first) == rows(second)
    assert len(rows(first)) > 1
    assert episodes(first) == episodes(second)
    if (first / "evaluations.npz").is_file():
        with np.load(first / "evaluations.npz") as one, np.load(second / "evaluations.npz") as other:
            assert sorted(one.files) == sorted(other.files)
            assert all(np.array_equal(one[name], other[name]) for name in one.files)
    normalizer = Path(env, "vecnormalize.pkl")
    assert (first / normalizer).is_file() == (second / normalizer).is_file()
