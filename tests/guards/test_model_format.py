"""A model's zip says its format: a newer one is refused in a sentence, one without a version loads."""

from pathlib import Path

import pytest
from stable_baselines3 import PPO

from helpers.weights import assert_same_weights
from sb3_stable_ppo import StablePPO, UsageError
from sb3_stable_ppo.guards.model_format import FORMAT


def test_a_newer_zip_is_refused_and_tells_what_to_do(tmp_path: Path) -> None:
    model = StablePPO("MlpPolicy", "CartPole-v1", n_steps=64)
    model.format_version = FORMAT + 1
    model.save(tmp_path / "newer.zip")
    with pytest.raises(UsageError, match=f"saved in format {FORMAT + 1}.*up to {FORMAT}: load it with the version"):
        StablePPO.load(tmp_path / "newer.zip")


def test_zips_without_a_version_load_and_are_saved_with_one(tmp_path: Path) -> None:
    stock = PPO("MlpPolicy", "CartPole-v1", n_steps=64, seed=0)
    stock.save(tmp_path / "stock.zip")
    model = StablePPO.load(tmp_path / "stock.zip")
    assert_same_weights(stock, model)
    model.save(tmp_path / "ours.zip")
    assert StablePPO.load(tmp_path / "ours.zip").format_version == FORMAT
    assert_same_weights(stock, PPO.load(tmp_path / "ours.zip"))
