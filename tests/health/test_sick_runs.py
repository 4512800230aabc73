"""What HealthCallback does when a network breaks: the alarm, the last healthy model, and what the user asked for."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch as th
from stable_baselines3 import PPO

from helpers.health import Break, cartpole_model, lines_of, pong_model
from helpers.weights import assert_same_weights
from sb3_stable_ppo import CollapseError, HealthCallback, StablePPO


@pytest.mark.slow
def test_a_network_that_breaks_is_said_with_its_layer_and_its_last_healthy_model_is_kept(tmp_path: Path) -> None:
    callbacks = [Break("features_extractor.cnn.conv2", 128, -10.0), HealthCallback(folder=tmp_path, budget=None)]
    with pytest.warns(UserWarning, match="HealthCallback: 100% of the units of conv2 are linear") as warned:
        model = pong_model(guards=None).learn(64 * 5, callback=callbacks)
    assert any(f"(step 64) is in {tmp_path / 'last_healthy.zip'}" in str(warning.message) for warning in warned)
    kept = StablePPO.load(tmp_path / "last_healthy.zip")
    assert kept.num_timesteps == 64
    assert_same_weights(kept, pong_model(guards=None).learn(64))
    assert float(model.policy.features_extractor.cnn.conv2.bias.mean()) == pytest.approx(-10.0, abs=0.1)
    raised = [event for line in lines_of(tmp_path) for event in line["events"]]
    assert ("inactive_layer", 128, "conv2") in [(event["name"], event["step"], event["where"]) for event in raised]


def test_the_model_before_a_first_update_that_breaks_it_is_kept(tmp_path: Path) -> None:
    callbacks = [Break("action_net", 64, math.nan), HealthCallback(folder=tmp_path)]
    model = cartpole_model()
    with (
        pytest.warns(UserWarning, match=r"weight action_net\.weight: 128 of 128 values are not finite"),
        pytest.raises(ValueError, match="constraint"),
    ):
        model.learn(64 * 3, callback=callbacks)
    assert PPO.load(tmp_path / "last_healthy.zip").num_timesteps == 64
    assert_same_weights(PPO.load(tmp_path / "last_healthy.zip"), cartpole_model())
    line = json.loads((tmp_path / "health.jsonl").read_text().splitlines()[0])
    assert line["nonfinite"].startswith("weight action_net.weight")


def test_a_run_that_goes_on_remembers_its_alarms_and_a_new_one_does_not(tmp_path: Path) -> None:
    model = cartpole_model(policy_kwargs={"activation_fn": th.nn.ReLU})
    with pytest.warns(UserWarning, match="are dead"):
        model.learn(256, callback=[Break("mlp_extractor.policy_net.0", 64, -10.0), HealthCallback(folder=tmp_path)])
    going_on = HealthCallback(folder=tmp_path)
    model.learn(64, callback=going_on, reset_num_timesteps=False)
    assert "inactive_layer" in going_on.alarms.active
    assert len(lines_of(tmp_path)) == 5
    anew = HealthCallback(folder=tmp_path)
    cartpole_model().learn(64, callback=anew)
    assert anew.alarms.active == {}
    assert len(lines_of(tmp_path)) == 1
    assert (tmp_path / "last_healthy.zip.1").is_file()


def test_an_earlier_model_that_goes_on_in_the_same_folder_has_no_alarms_of_later_steps(tmp_path: Path) -> None:
    options = {"policy_kwargs": {"activation_fn": th.nn.ReLU}}
    model = cartpole_model(**options).learn(64, callback=HealthCallback(folder=tmp_path))
    model.save(tmp_path / "early")
    breaks = [Break("mlp_extractor.policy_net.0", 64, -10.0), HealthCallback(folder=tmp_path)]
    with pytest.warns(UserWarning, match="are dead"):
        model.learn(256, callback=breaks, reset_num_timesteps=False)
    early, health = PPO.load(tmp_path / "early", env=model.get_env()), HealthCallback(folder=tmp_path)
    early.learn(64, callback=health, reset_num_timesteps=False)
    *_, last = lines_of(tmp_path)
    assert (last["step"], last["events"], health.alarms.active) == (128, [], {})  # no event says that one is over


@pytest.mark.filterwarnings("ignore:.*has no folder")
@pytest.mark.parametrize("has_folder", [True, False])
@pytest.mark.parametrize("on_alarm", ["stop", "raise", "function"])
def test_an_alarm_stops_or_raises_or_calls(on_alarm: str, has_folder: bool, tmp_path: Path) -> None:
    folder = tmp_path if has_folder else None
    model_kept = (
        r"The last healthy model \(before the update of step 64\) is in"
        if has_folder
        else "not kept, as there is no folder to save it in"
    )
    heard: list[Any] = []
    action: Any = (
        (lambda event, model: heard.append((event.name, model.num_timesteps))) if on_alarm == "function" else on_alarm
    )
    model = cartpole_model(policy_kwargs={"activation_fn": th.nn.ReLU})
    callbacks = [Break("mlp_extractor.policy_net.0", 64, -10.0), HealthCallback(folder=folder, on_alarm=action)]
    if on_alarm == "raise":
        with pytest.raises(CollapseError, match=rf"of the units of pi\.fc\d are dead .* {model_kept}"):
            model.learn(640, callback=callbacks)
        assert model.num_timesteps == 192
    elif on_alarm == "stop":
        with pytest.warns(UserWarning, match=f"are dead .* {model_kept}"):
            model.learn(640, callback=callbacks)
        assert 192 < model.num_timesteps < 256
    else:
        model.learn(640, callback=callbacks)
        assert ("inactive_layer", 192) in heard
        assert model.num_timesteps == 640
