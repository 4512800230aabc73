"""SB3's printed table has what happened, and not every figure that was measured."""

from pathlib import Path

import numpy as np
import pytest
from stable_baselines3.common.logger import configure

from sb3_stable_ppo import HealthCallback, StablePPO
from sb3_stable_ppo.runs.data import read_run


def table_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The first words of the rows."""
    return [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines() if line.startswith("|")]


def trained(folder: Path, **guards: float) -> StablePPO:
    model = StablePPO("StableMlpPolicy", "CartPole-v1", n_steps=64, n_epochs=1, seed=0, guards=guards)
    model.set_logger(configure(str(folder), ["stdout", "csv"]))
    return model.learn(192, callback=HealthCallback(budget=None))


def test_a_healthy_run_prints_neither_health_nor_guards_and_logs_both(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(tmp_path)
    printed = table_of(capsys)
    assert "train/" in printed
    assert not {"health/", "guards/"} & set(printed)
    curves = read_run(tmp_path).curves
    assert {"health/alarms", "health/pi.fc1/live_fraction", "guards/undone_updates", "guards/update_kl"} <= set(curves)
    assert (curves["guards/lr_scale"].values == 1).all()


def test_constants_of_the_features_are_not_logged(tmp_path: Path) -> None:
    trained(tmp_path)
    curves = set(read_run(tmp_path).curves)
    assert {"health/features/norm", "health/features/srank"} <= curves
    assert not {"health/features/rows", "health/features/width", "health/features/inputs"} & curves


def test_an_update_that_was_undone_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(UserWarning, match="max_kl"):
        model = trained(tmp_path, max_kl=1e-12, max_consecutive_skips=100)
    printed = table_of(capsys)
    assert "guards/" in printed
    assert {"undone_updates", "dropped_updates", "lr_scale"} <= set(printed)
    assert not {"update_kl", "nonfinite_rewards"} & set(printed)
    assert np.isfinite(model.policy.state_dict()["action_net.weight"].numpy()).all()
