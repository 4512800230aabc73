"""A saved model for the doctor."""

from pathlib import Path

import pytest
from stable_baselines3 import PPO

from helpers.envs import make_cartpole


@pytest.fixture
def cartpole_zip(tmp_path: Path) -> Path:
    PPO("MlpPolicy", make_cartpole(), n_steps=32, batch_size=32, seed=0).save(tmp_path / "model.zip")
    return tmp_path / "model.zip"
