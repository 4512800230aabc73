"""A model's figures beside those of healthy runs: whose range it is, what is marked, and how it is shown."""

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from sb3_contrib import RecurrentPPO
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from helpers.diagnosis import observations_of
from helpers.doctor import doctor
from helpers.envs import make_cartpole, make_pong
from sb3_stable_ppo import StableCnnPolicy, StableMlpPolicy, StablePongPolicy, StablePPO, diagnose
from sb3_stable_ppo.doctor.ranges import compare
from sb3_stable_ppo.health import healthy_ranges

pytestmark = pytest.mark.slow(seconds=1)

WIDE = {"live_fraction": [0.0, 1.0], "fault_fraction": [0.0, 1.0], "dormant_fraction": [0.0, 1.0]}


def of_kind(fault: str, **figures: Any) -> dict[str, Any]:
    return {"fault": fault, **WIDE, "srank_fraction": [0.25, 0.5], **figures}


MEASURED: dict[str, Any] = {
    "percentiles": [5, 95],
    "of": "the second half of each run",
    "ranges": {
        "vectors": {
            "stock": {
                "runs": {"CartPole-v1": 2},
                "actor": of_kind("saturated", live_fraction=[0.4, 0.6]),
                "critic": of_kind("saturated"),
                "features": {"width": 64, "effective_rank": [1.0, 2.0]},
                "policy": {"policy_variance": [0.1, 0.2], "entropy_share": [0.3, 0.9]},
            },
            "layer": {
                "runs": {"CartPole-v1": 1},
                "actor": of_kind("linear", live_fraction=[0.0, 0.5], dormant_fraction=[0.991, 0.9951]),
                "critic": of_kind("linear", live_fraction=[0.9, 0.991]),
                "features": {"width": 64, "effective_rank": [1.0, 64.0]},
                "policy": {"policy_variance": [0.0, 1.0], "entropy_share": [0.3, 0.9]},
            },
            "batch": {"runs": {"CartPole-v1": 1}, "actor": of_kind("linear", live_fraction=[0.25, 0.75])},
        },
        "images": {
            "stock": {"runs": {"PongNoFrameskip-v4": 1}, "conv": of_kind("dead"), "actor": of_kind("dead")},
            "layer": {
                "runs": {"PongNoFrameskip-v4": 1},
                "conv": of_kind("linear"),
                "actor": of_kind("linear"),
                "critic": of_kind("linear"),
            },
        },
    },
}


@pytest.fixture(autouse=True)
def _measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(healthy_ranges, "healthy_ranges", lambda: MEASURED)


def model_of(policy: Any = StableMlpPolicy, env: Any = None, **policy_kwargs: Any) -> Any:
    env = make_cartpole() if env is None else env
    return PPO(policy, env, n_steps=32, batch_size=32, seed=0, policy_kwargs=policy_kwargs)


def ranges_in(model: Any, rows: int = 96) -> Any:
    return diagnose(model, observations_of(model, rows)).figures["healthy_ranges"]


def test_a_layer_is_compared_with_runs_of_its_own_norm_and_kind_in_units_of_its_own_width() -> None:
    found = ranges_in(model_of(net_arch={"pi": [64, 32], "vf": [10]}))
    assert (found["observations"], found["network"]) == ("vectors", "layer")
    assert found["runs"] == {"healthy": {"CartPole-v1": 1}, "stock": {"CartPole-v1": 2}}
    assert found["layers"]["pi.fc1"]["live"] == {"healthy": [0, 32], "stock": [25, 39], "outside": "above"}
    assert found["layers"]["pi.fc2"]["live"]["healthy"] == [0, 16]
    assert found["layers"]["vf.fc1"]["live"]["healthy"] == [9, 10]
    assert ranges_in(model_of(norm="batch"))["layers"]["pi.fc1"]["live"]["healthy"] == [16, 48]


@pytest.mark.parametrize(("share", "outside"), [(0.9949, None), (0.9851, None), (0.9849, "below")])
def test_a_value_is_outside_only_if_its_printed_digits_are(share: float, outside: str | None) -> None:
    layer = {"units": 64, "live": 32, "fault": "linear", "fault_fraction": 0.5, "dormant_fraction": share, "srank": 9}
    figures = {"layers": {"pi.fc1": layer}, "features": {}, "policy": {}}
    found = compare(model_of().policy, figures)["layers"]["pi.fc1"]["dormant_fraction"]
    assert found == {"healthy": [0.99, 1.0], "stock": [0.0, 1.0], "outside": outside}


def test_what_lies_outside_changes_no_verdict() -> None:
    model = model_of()
    observations = observations_of(model)
    diagnosis = diagnose(model, observations)
    assert diagnosis.figures["healthy_ranges"]["layers"]["pi.fc1"]["live"]["outside"] == "above"
    MEASURED["ranges"]["vectors"], kept = {}, MEASURED["ranges"]["vectors"]
    try:
        other = diagnose(model, observations)
    finally:
        MEASURED["ranges"]["vectors"] = kept
    assert (diagnosis.verdict, diagnosis.findings) == (other.verdict, other.findings)
    assert other.figures["healthy_ranges"]["layers"]["pi.fc1"]["live"] == {
        "healthy": None,
        "stock": None,
        "outside": None,
    }


class OwnExtractor(BaseFeaturesExtractor):
    """A user's own."""

    def __init__(self, space: Any) -> None:
        super().__init__(space, 8)
        self.net = nn.Sequential(nn.Linear(int(np.prod(space.shape)), 8), nn.ReLU())

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.net(observations)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("policy", "options", "layer"),
    [
        (StableMlpPolicy, {"activation": "tanh"}, "pi.fc1"),
        (StableMlpPolicy, {"norm": "none"}, "pi.fc1"),
        ("MlpPolicy", {"activation_fn": nn.ReLU}, "pi.fc1"),
        ("MlpPolicy", {"features_extractor_class": OwnExtractor}, "fc1"),
    ],
)
def test_a_network_that_nobody_has_measured_has_no_healthy_range_and_is_shown_beside_sb3s_own(
    policy: Any, options: dict[str, Any], layer: str
) -> None:
    found = ranges_in(model_of(policy, **options))["layers"][layer]["live"]
    assert (found["healthy"], found["outside"]) == (None, None)
    assert found["stock"] is not None


def test_hidden_layers_behind_convolutions_were_measured_without_a_norm() -> None:
    plain = ranges_in(model_of(StablePongPolicy, make_pong(1), norm="layer"), 16)["layers"]
    assert {name for name, figures in plain.items() if figures["live"]["healthy"]} == {
        "conv1",
        "conv2",
        "conv3",
        "pi.fc1",
        "vf.fc1",
    }
    assert plain["vf.fc1"]["live"]["stock"] is None  # its one hidden layer serves both
    normed = ranges_in(model_of(StableCnnPolicy, make_pong(1), norm="layer", norm_hidden="layer"), 16)["layers"]
    assert normed["conv1"]["live"]["healthy"] is not None
    assert normed["fc1"]["live"]["healthy"] is None


def test_ranks_are_compared_on_as_many_observations_as_they_were_measured_on() -> None:
    model = model_of()
    few, many = ranges_in(model, 256), ranges_in(model, 512)
    assert "srank" not in few["layers"]["pi.fc1"]
    assert few["features"] == {}
    assert many["layers"]["pi.fc1"]["srank"]["healthy"] == [16, 32]
    assert many["features"]["effective_rank"]["healthy"] == [1.0, 64.0]
    for options in ({"net_arch": [32]}, {"activation": "tanh"}):
        assert ranges_in(model_of(**options), 512)["features"]["effective_rank"]["healthy"] is None, options


@pytest.mark.parametrize(("algorithm", "policy"), [(DQN, "MlpPolicy"), (RecurrentPPO, "MlpLstmPolicy")])
def test_networks_of_another_kind_than_ppos_are_compared_with_nothing(algorithm: Any, policy: str) -> None:
    model = algorithm(policy, gym.make("CartPole-v1"), seed=0)
    assert diagnose(model, observations_of(model)).figures["healthy_ranges"] == {}


@pytest.fixture
def pong_zip(tmp_path: Path) -> Path:
    StablePPO(StablePongPolicy, make_pong(1), seed=0, policy_kwargs={"norm": "layer"}).save(tmp_path / "pong.zip")
    return tmp_path / "pong.zip"


def test_the_table_has_both_ranges_marks_what_is_outside_and_stays_below_100_columns(
    pong_zip: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "240")
    of_conv = MEASURED["ranges"]["images"]["layer"]["conv"]
    monkeypatch.setitem(of_conv, "live_fraction", [0.0, 0.1])
    assert doctor(pong_zip, "--env", "PongNoFrameskip-v4", "--rows", 64) == 0
    shown = capsys.readouterr().out
    table = [line for line in shown.splitlines() if line.startswith(("┏", "┃", "┡", "│", "├", "└"))]
    assert [cell.strip() for cell in table[1].strip("┃").split("┃")] == ["layer", "figure", "value", "healthy", "stock"]
    assert max(map(len, table)) < 100
    row = [cell.strip() for cell in table[3].strip("│").split("│")]
    assert row[:2] == ["conv1", "live, else linear"]
    assert row[2].endswith("of 32 (above)")
    assert row[3:] == ["0 to 4", "0 to 32"]
    assert "healthy: 1 run of PongNoFrameskip-v4, norm: layer." in shown
    assert "stock: 1 run of PongNoFrameskip-v4, SB3's own network." in shown
    assert "Units are counted on 64 observations" in shown


def test_layers_whose_activation_nobody_has_measured_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = PPO("MlpPolicy", make_cartpole(), policy_kwargs={"activation_fn": th.nn.ReLU}, n_steps=32, seed=0)
    model.save(tmp_path / "relu")
    doctor(tmp_path / "relu.zip", "--env", "CartPole-v1", "--rows", "32")
    told = " ".join(capsys.readouterr().out.split())
    assert "No healthy range (-) for pi.fc1, pi.fc2, vf.fc1, vf.fc2: no layer of that kind, norm and" in told


def test_json_has_the_ranges_of_the_table(pong_zip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(pong_zip, "--env", "PongNoFrameskip-v4", "--rows", 16, "--json") == 0
    found = json.loads(capsys.readouterr().out)["figures"]["healthy_ranges"]
    assert found["layers"]["conv1"]["live"] == {"healthy": [0, 32], "stock": [0, 32], "outside": None}
    assert found["runs"]["healthy"] == {"PongNoFrameskip-v4": 1}


def test_a_model_without_ranges_has_a_table_without_their_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    DQN("MlpPolicy", gym.make("CartPole-v1"), seed=0).save(tmp_path / "dqn.zip")
    assert doctor(tmp_path / "dqn.zip", "--env", "CartPole-v1", "--rows", 64) == 0
    shown = capsys.readouterr().out
    assert "live, else dead" in shown
    assert "healthy:" not in shown
