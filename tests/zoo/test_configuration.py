"""train, tune and enjoy on envs that have no entry of ours, and --hyperparams through the command line."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import yaml
from torch import nn

from helpers.tuning import PARAMS
from sb3_stable_ppo import StablePPO, StableRecurrentPPO
from sb3_stable_ppo.cli.app import main
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.runs.folder import RunReader
from sb3_stable_ppo.studies.space import as_hyperparams
from sb3_stable_ppo.tuning.trial import base_entry
from sb3_stable_ppo.zoo.configuration import entry_for
from sb3_stable_ppo.zoo.registry import ALGORITHMS, config_file
from sb3_stable_ppo.zoo.stock_entries import stock_file

SHORT = ["n_envs:2", "n_steps:16", "batch_size:16", "n_epochs:1"]
QUIET = ["--eval-freq", "-1", "--no-progress", "--no-report", "--verbose", "0", "--seed", "0"]


def train(folder: Path, env: str, *params: str, algo: str = "stable_ppo", flags: tuple[str, ...] = ()) -> int:
    call = ["train", "--algo", algo, "--env", env, "-n", "64", "-f", str(folder), *QUIET, *flags]
    return main([*call, "-params", *SHORT, *params])


def saved(folder: Path, env: str, algo: str = "stable_ppo") -> dict[str, Any]:
    """The hyperparameters that a run folder keeps."""
    config = folder / algo / f"{env}_1" / env / "config.yml"
    return dict(yaml.load(config.read_text(), yaml.UnsafeLoader))


def test_an_env_without_an_entry_trains_with_rl_zoo3s_and_plays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env = "MountainCarContinuous-v0"
    assert train(tmp_path, env) == 0
    shown = capsys.readouterr().out
    assert (
        "stable_ppo.yml has no entry for MountainCarContinuous-v0: taken from rl_zoo3's ppo.yml, "
        "MountainCarContinuous-v0, with StableMlpPolicy and HealthCallback.\n"
    ) in shown
    assert f"Loading hyperparameters from: {stock_file('stable_ppo')}" in shown
    stock = yaml.safe_load(stock_file("stable_ppo").read_text())[env]
    changed = {"n_envs": 2, "n_steps": 16, "batch_size": 16, "n_epochs": 1}
    assert saved(tmp_path, env) == {
        **stock,
        **changed,
        "policy": "StableMlpPolicy",
        "policy_kwargs": {"log_std_init": -3.29, "ortho_init": False},
        "callback": ["sb3_stable_ppo.HealthCallback"],
    }
    run = RunReader(tmp_path / "stable_ppo" / f"{env}_1")
    assert run.facts["status"] == "finished"
    assert [line["step"] for line in run.health()] == [32, 64]
    assert main(["enjoy", "--env", env, "-f", str(tmp_path), "-n", "30", "--no-render"]) == 0
    model = StablePPO.load(run.folder / f"{env}.zip")
    assert model.guards == StablePPO("MlpPolicy", "CartPole-v1").guards


def test_an_entry_of_another_version_is_used_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tmp_path, "HumanoidStandup-v5") == 0
    assert "taken from rl_zoo3's ppo.yml, HumanoidStandup-v2, with StableMlpPolicy" in capsys.readouterr().out
    model = StablePPO.load(tmp_path / "stable_ppo" / "HumanoidStandup-v5_1" / "HumanoidStandup-v5.zip")
    hidden = model.policy.mlp_extractor.policy_net
    assert [type(layer) for layer in hidden.modules() if isinstance(layer, (nn.ReLU, nn.LeakyReLU, nn.Tanh))] == [
        nn.ReLU
    ] * 2
    assert [layer.out_features for layer in hidden.modules() if isinstance(layer, nn.Linear)] == [256, 256]


def test_the_recurrent_algorithm_falls_back_on_rl_zoo3s_recurrent_entries(tmp_path: Path) -> None:
    assert train(tmp_path, "MountainCarNoVel-v0", algo="stable_ppo_lstm") == 0
    model = StableRecurrentPPO.load(tmp_path / "stable_ppo_lstm" / "MountainCarNoVel-v0_1" / "MountainCarNoVel-v0.zip")
    assert type(model.policy).__name__ == "StableRecurrentMlpPolicy"


@pytest.mark.parametrize(
    ("algo", "env", "source"),
    [
        ("stable_ppo", "BreakoutNoFrameskip-v4", "stable_ppo.yml, atari"),
        ("stable_ppo", "Hopper-v5", "stable_ppo.yml, Hopper-v5"),
        ("stable_ppo", "Hopper-v4", "rl_zoo3's ppo.yml, Hopper-v4"),
        ("stable_ppo", "Ant-v5", "rl_zoo3's ppo.yml, Ant-v4"),
        ("stable_ppo_mask", "Acrobot-v1", "rl_zoo3's ppo.yml, Acrobot-v1"),
        ("stable_ppo_lstm", "Acrobot-v1", "rl_zoo3's ppo_lstm.yml, Acrobot-v1"),
        ("stable_ppo_lstm", "PongNoFrameskip-v4", "rl_zoo3's ppo_lstm.yml, atari"),
    ],
)
def test_ours_goes_before_rl_zoo3s(algo: str, env: str, source: str) -> None:
    found = entry_for(config_file(algo), env, ALGORITHMS[algo])
    assert found.source.endswith(source)
    assert bool(found.note) == source.startswith("rl_zoo3")


def test_a_version_that_we_have_no_entry_for_takes_that_of_another_and_says_so() -> None:
    found = entry_for(config_file("stable_ppo"), "CartPole-v0", StablePPO)
    assert found.note == "stable_ppo.yml has no entry for CartPole-v0: taken from its CartPole-v1."
    assert found.hyperparams["n_steps"] == 32


def test_an_env_that_no_file_knows_is_one_sentence_with_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gym.register("MountainCarSteep-v1", "gymnasium.envs.classic_control:MountainCarEnv")
    try:
        assert train(tmp_path, "MountainCarSteep-v1") == 2
    finally:
        del gym.registry["MountainCarSteep-v1"]
    shown = capsys.readouterr().err
    assert "stable_ppo.yml has no entry for MountainCarSteep-v1, nor has rl_zoo3's ppo.yml. Nearest are Mount" in shown
    assert shown.endswith(". Give a file that has one with --conf-file.\n")
    assert shown.count("error:") == 1
    assert not any(tmp_path.iterdir())


def test_a_users_file_alone_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "own.yml"
    own.write_text(yaml.safe_dump({"MountainCar-v0": {"policy": "StableMlpPolicy", "n_timesteps": 64}}))
    assert train(tmp_path / "logs", "MountainCarContinuous-v0", flags=("--conf-file", str(own))) == 2
    assert f"{own} has no entry for MountainCarContinuous-v0. Nearest are MountainCar-v0." in capsys.readouterr().err
    own.write_text(yaml.safe_dump({"default": {"policy": "StableMlpPolicy", "n_timesteps": 64}}))
    assert train(tmp_path / "logs", "MountainCarContinuous-v0", flags=("--conf-file", str(own))) == 0


def test_tune_finds_entries_where_train_does(capsys: pytest.CaptureFixture[str]) -> None:
    entry = base_entry(config_file("stable_ppo"), "Ant-v5", StablePPO, {"policy_kwargs": {"init_gain": 1}})
    assert "taken from rl_zoo3's ppo.yml, Ant-v4" in capsys.readouterr().out
    assert entry["policy_kwargs"] == {"lean": "auto", "optimizer_kwargs": {"fused": True}, "init_gain": 1}
    with pytest.raises(
        UsageError, match=r"^stable_ppo.yml has no entry for|has no entry for FrozenLake-v1, nor has rl"
    ):
        base_entry(config_file("stable_ppo"), "FrozenLake-v1", StablePPO)


def test_a_trial_replaces_the_activation_of_an_entry() -> None:
    entry = base_entry(config_file("stable_ppo"), "Hopper-v5", StablePPO)
    assert entry["policy_kwargs"]["activation_fn"] == "relu"
    merged = as_hyperparams({**PARAMS, "activation": "tanh"}, entry, 64)["policy_kwargs"]
    assert (merged["activation"], merged["log_std_init"]) == ("tanh", -2)
    assert "activation_fn" not in merged


class Tiny(gym.Env[Any, Any]):
    """Images that are too small for the convolutions."""

    observation_space = gym.spaces.Box(0, 255, (10, 10, 1), np.uint8)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 0.0, False, True, {}


@pytest.fixture
def tiny() -> Iterator[str]:
    gym.register("CarRacingTiny-v0", Tiny)
    yield "CarRacingTiny-v0"
    del gym.registry["CarRacingTiny-v0"]


def test_observations_that_our_policy_cannot_take_are_one_sentence_of_the_policys(
    tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stock = tmp_path / "ppo.yml"
    stock.write_text(yaml.safe_dump({tiny: {"policy": "CnnPolicy", "n_timesteps": 64}}))
    monkeypatch.setattr("sb3_stable_ppo.zoo.configuration.stock_file", lambda _: stock)
    assert train(tmp_path / "logs", tiny) == 2
    shown = capsys.readouterr().err
    assert "36" in shown
    assert shown.count("error:") == 1
    assert not (tmp_path / "logs").exists()


def test_policy_kwargs_of_the_command_line_are_merged_into_the_entrys(tmp_path: Path) -> None:
    own = tmp_path / "own.yml"
    entry = {"policy": "StableMlpPolicy", "n_timesteps": 64, "policy_kwargs": {"net_arch": [8], "norm": "layer"}}
    own.write_text(yaml.safe_dump({"CartPole-v1": entry}))
    conf = ("--conf-file", str(own))
    assert train(tmp_path, "CartPole-v1", "policy_kwargs:dict(norm='batch')", flags=conf) == 0
    assert saved(tmp_path, "CartPole-v1")["policy_kwargs"] == {"net_arch": [8], "norm": "batch"}


def test_a_key_of_the_command_line_that_goes_elsewhere_is_told_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path, "CartPole-v1", "norm:'batch'") == 2
    complaint = capsys.readouterr().err.splitlines()[-1]
    assert complaint == (
        "sb3-stable-ppo: error: --hyperparams (-params): norm goes into policy_kwargs: "
        "-params \"policy_kwargs:dict(norm='batch')\"."
    )
    assert not any(tmp_path.iterdir())
