"""Schedules that YAML names, from the command line to the saved model."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from sb3_stable_ppo import StablePPO, StepLR
from sb3_stable_ppo.cli.app import main
from sb3_stable_ppo.schedules.learning_rate import counting_schedule

ENTRY: dict[str, Any] = {
    "policy": "StableMlpPolicy",
    "n_envs": 2,
    "n_steps": 16,
    "batch_size": 16,
    "n_epochs": 1,
    "n_timesteps": 128,
}


def train(folder: Path, learning_rate: str, *flags: str) -> int:
    config = folder / "config.yml"
    config.write_text(yaml.safe_dump({"CartPole-v1": {**ENTRY, "learning_rate": yaml.safe_load(learning_rate)}}))
    command = ["train", "--env", "CartPole-v1", "-conf", str(config), "-f", str(folder / "logs"), "--seed", "0"]
    return main([*command, "--eval-freq", "-1", "--no-report", *flags])


def test_step_size_auto_ends_at_a_tenth_and_a_resumed_run_keeps_its_step(tmp_path: Path) -> None:
    rate = "{schedule: step, initial: 1e-3, step_size: auto, gamma: 0.5}"
    assert train(tmp_path, rate) == 0
    first, second = (tmp_path / "logs" / "stable_ppo" / f"CartPole-v1_{n}" / "CartPole-v1.zip" for n in (1, 2))
    assert train(tmp_path, rate, "-i", str(first)) == 0
    for path, count in ((first, 4), (second, 8)):
        schedule = counting_schedule(StablePPO.load(path).learning_rate)
        assert isinstance(schedule, StepLR)
        assert (schedule.step_size, schedule.fixed_step, schedule.count) == ("auto", 1, count)
        assert schedule.value_at(3) == 1.25e-4


def test_an_auto_step_that_never_falls_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tmp_path, "{schedule: step, step_size: auto, gamma: 1}") == 2
    assert "gamma=1 never comes to: give a gamma between 0 and 1" in capsys.readouterr().err
