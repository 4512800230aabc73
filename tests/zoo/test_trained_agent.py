"""``train -i``: what a run takes over from the agent that it begins with."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from helpers.commands import CARTPOLE, run_folder, train
from sb3_stable_ppo.cli.app import main
from sb3_stable_ppo.runs.logs import read_progress

pytestmark = pytest.mark.slow(seconds=5)
QUIET = ("--eval-freq", "-1", "--no-report", "--no-progress")


def test_a_line_begins_at_its_full_value_where_the_run_begins(tmp_path: Path) -> None:
    changes = {"learning_rate": "lin_0.001", "clip_range": "lin_0.2"}
    assert train(tmp_path, *QUIET, "-n", "320", **changes) == 0
    agent = str(run_folder(tmp_path) / "CartPole-v1.zip")
    assert train(tmp_path, *QUIET, "-n", "64", "-i", agent, **changes) == 0
    curves = read_progress(run_folder(tmp_path, 2))
    # SB3 logs the first of the run's two updates, which is half way
    assert curves["train/clip_range"].values.tolist() == pytest.approx([0.1])
    assert curves["train/learning_rate"].values.tolist() == pytest.approx([0.0005])


def test_statistics_are_found_at_a_checkpoint_and_saved_with_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path, *QUIET, "--checkpoint-steps", "32", normalize=True) == 0
    model = next((run_folder(tmp_path) / "checkpoints").glob("*/model.zip"))
    capsys.readouterr()
    assert train(tmp_path, *QUIET, "-i", str(model), normalize=False) == 0
    statistics = run_folder(tmp_path) / "CartPole-v1" / "vecnormalize.pkl"
    assert f"Statistics of VecNormalize: {statistics}" in capsys.readouterr().out
    env = make_vec_env("CartPole-v1", 2)
    before, found = (
        VecNormalize.load(str(run_folder(tmp_path, number) / "CartPole-v1" / "vecnormalize.pkl"), env)
        for number in (1, 2)
    )
    assert found.obs_rms.count == pytest.approx(before.obs_rms.count + 64 + 2)  # and the reset of two envs
    config = (run_folder(tmp_path, 2) / "CartPole-v1" / "config.yml").read_text()
    assert "normalize\n    - true" in config
    played = ["enjoy", "--env", "CartPole-v1", "-f", str(tmp_path / "logs"), "--exp-id", "2", "-n", "20", "--no-render"]
    assert main(played) == 0
    assert "Loading running average" in capsys.readouterr().out


def test_an_agent_without_statistics_is_said_to_begin_with_new_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path, *QUIET) == 0
    agent = str(run_folder(tmp_path) / "CartPole-v1.zip")
    assert train(tmp_path, *QUIET, "-i", agent, normalize=True) == 0
    said = capsys.readouterr().out
    assert f"{agent} has no statistics of VecNormalize" in said
    assert f"The network is that of {agent}: policy and policy_kwargs of the entry do not count." in said


def test_damaged_statistics_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tmp_path, *QUIET, normalize=True) == 0
    statistics = run_folder(tmp_path) / "CartPole-v1" / "vecnormalize.pkl"
    statistics.write_bytes(b"no pickle")
    agent = str(run_folder(tmp_path) / "CartPole-v1.zip")
    assert train(tmp_path, *QUIET, "-i", agent, normalize=True) == 2
    assert f"{statistics}: no statistics of a VecNormalize for this env (UnpicklingError" in capsys.readouterr().err
    played = ["enjoy", "--env", "CartPole-v1", "-f", str(tmp_path / "logs"), "-n", "20", "--no-render"]
    assert main(played) == 2
    assert "enjoy: the env CartPole-v1 cannot be made: UnpicklingError" in capsys.readouterr().err


def test_evaluations_have_the_env_kwargs_of_the_configuration(tmp_path: Path) -> None:
    flags = ("--eval-freq", "32", "--eval-episodes", "1", "--no-report", "--no-progress")
    assert train(tmp_path, *flags, env_kwargs={"sutton_barto_reward": True}) == 0
    evaluations = run_folder(tmp_path) / "evaluations.npz"
    assert np.load(evaluations)["results"].max() <= 0


def test_a_python_file_is_a_configuration_whose_kwargs_are_merged(tmp_path: Path) -> None:
    entry = {**CARTPOLE, "callback": None, "policy_kwargs": {"net_arch": [8], "norm": "none"}}
    path = tmp_path / "conf.py"
    path.write_text(f"hyperparams = {{'CartPole-v1': {entry!r}}}")
    args = ["train", "--env", "CartPole-v1", "-conf", str(path), "-f", str(tmp_path / "logs"), "--seed", "0", *QUIET]
    assert main([*args, "-params", "policy_kwargs:dict(init_gain=0.5)"]) == 0
    saved = yaml.safe_load((run_folder(tmp_path) / "CartPole-v1" / "config.yml").read_text().split("\n", 1)[1])
    assert ["policy_kwargs", {"init_gain": 0.5, "net_arch": [8], "norm": "none"}] in saved[0]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("import no_such_module_of_mine", "ModuleNotFoundError: No module named 'no_such_module_of_mine'"),
        ("hyperparams = 3", "neither a .yml or .yaml file nor a Python file or module with a dictionary"),
        ("hyperparams = {'CartPole-v1': {'policy': 'MlpPolicy', 'n_steps': int('x')}}", "ValueError: invalid literal"),
        (
            "class Net: ...\nhyperparams = {'CartPole-v1': {'policy_kwargs': {'norm': [Net]}}}",
            "a run that goes on later would not find <class '<hyperparams>.Net'>, which the file defines",
        ),
    ],
)
def test_what_is_wrong_in_a_python_file_is_told(
    content: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "conf.py").write_text(content)
    args = ["train", "--env", "CartPole-v1", "-conf", str(tmp_path / "conf.py"), "-f", str(tmp_path / "logs")]
    assert main(args) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "logs").exists()


def test_a_configuration_is_saved_as_it_was_written_though_a2c_changes_its_own(tmp_path: Path) -> None:
    entry = {"policy": "MlpPolicy", "n_timesteps": 10, "policy_kwargs": {"net_arch": [8]}}
    (tmp_path / "conf.yml").write_text(yaml.safe_dump({"CartPole-v1": entry}))
    args = ["train", "--algo", "a2c", "--env", "CartPole-v1", "-conf", str(tmp_path / "conf.yml")]
    assert main([*args, "-f", str(tmp_path / "logs"), *QUIET]) == 0
    saved = (tmp_path / "logs" / "a2c" / "CartPole-v1_1" / "CartPole-v1" / "config.yml").read_text()
    assert "RMSprop" not in saved


def test_statistics_in_the_current_folder_are_not_those_of_a_run_that_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(tmp_path, *QUIET, normalize=True) == 0
    monkeypatch.chdir(run_folder(tmp_path))
    assert Path("CartPole-v1/vecnormalize.pkl").is_file()
    for number, normalize in ((2, False), (3, True)):
        assert train(tmp_path, *QUIET, normalize=normalize) == 0
        statistics = run_folder(tmp_path, number) / "CartPole-v1" / "vecnormalize.pkl"
        assert statistics.is_file() is normalize
    found = VecNormalize.load(str(statistics), make_vec_env("CartPole-v1", 2))
    assert found.obs_rms.count == pytest.approx(64 + 2, abs=1e-3), "it counts those of its own run alone"
