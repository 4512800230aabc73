"""``doctor`` and ``report`` take a run folder and a zip, both of them."""

import json
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3 import PPO

from helpers.envs import make_cartpole
from sb3_stable_ppo import StablePPO
from sb3_stable_ppo.cli.app import main
from sb3_stable_ppo.runs.folder import RunWriter


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with a model, as ``train`` leaves it."""
    (tmp_path / "run").mkdir()
    model = StablePPO("StableMlpPolicy", make_cartpole(), n_steps=32, batch_size=32, seed=0)
    for name in ("CartPole-v1.zip", "best_model.zip", "last_healthy.zip"):
        model.save(tmp_path / "run" / name)
    writer = RunWriter(tmp_path / "run")
    writer.describe(algo="stable_ppo", env="CartPole-v1", status="finished")
    (tmp_path / "run" / "progress.csv").write_text("time/total_timesteps,rollout/ep_rew_mean\n64,9.0\n128,10.0\n")
    return tmp_path / "run"


def doctor(capsys: Any, *args: Any) -> str:
    assert main(["doctor", *map(str, args)]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_the_doctor_of_a_run_folder_lets_its_last_model_play_in_its_env(run: Path, capsys: Any) -> None:
    shown = doctor(capsys, run, "--rows", 64)
    assert f"{run / 'CartPole-v1.zip'}: StablePPO after 0 steps, 64 observations of CartPole-v1" in shown


def test_the_doctor_of_a_run_folder_looks_at_weights_alone_where_that_is_asked(run: Path, capsys: Any) -> None:
    shown = doctor(capsys, run, "--weights-only")
    assert f"{run / 'CartPole-v1.zip'}: its " in shown
    assert "without an env" in shown


def test_the_doctor_of_a_zip_looks_at_its_weights_and_plays_only_where_an_env_is_given(run: Path, capsys: Any) -> None:
    assert "without an env" in doctor(capsys, run / "best_model.zip")
    assert "64 observations of CartPole-v1" in doctor(
        capsys, run / "best_model.zip", "--env", "CartPole-v1", "--rows", 64
    )


def test_an_env_of_a_run_that_does_not_exist_here_is_one_sentence_with_the_cure(run: Path, capsys: Any) -> None:
    RunWriter(run).describe(env="Mine-v0")
    (run / "CartPole-v1.zip").rename(run / "Mine-v0.zip")
    assert main(["doctor", str(run)]) == 2
    complaint = capsys.readouterr().err
    assert "Unknown env 'Mine-v0'" in complaint
    assert f"It is the env of the run in {run}: --gym-packages MODULE registers" in complaint
    assert main(["doctor", str(run), "--weights-only"]) == 0


def test_an_env_of_a_run_that_rl_zoo3_registers_is_found(run: Path, capsys: Any) -> None:
    RunWriter(run).describe(env="CartPoleNoVel-v1")
    (run / "CartPole-v1.zip").rename(run / "CartPoleNoVel-v1.zip")
    assert "64 observations of CartPoleNoVel-v1" in doctor(capsys, run, "--rows", 64)


def test_an_env_of_other_spaces_is_one_sentence_with_a_way_without_it(run: Path, capsys: Any) -> None:
    assert main(["doctor", str(run), "--env", "Pendulum-v1"]) == 2
    complaint = capsys.readouterr().err
    assert "--env Pendulum-v1: ValueError: Observation spaces do not match" in complaint
    assert complaint.rstrip().endswith("--weights-only examines the weights without an env.")


def test_a_run_folder_without_a_model_is_one_sentence(tmp_path: Path, capsys: Any) -> None:
    RunWriter(tmp_path).describe(algo="stable_ppo", env="CartPole-v1")
    assert main(["doctor", str(tmp_path)]) == 2
    assert f"error: {tmp_path} has no model, but run.json. No model of its run was saved" in capsys.readouterr().err


@pytest.mark.parametrize("algo", ["ppo", "PPO"])
def test_an_algorithm_is_named_by_its_class_or_as_rl_zoo3_does(algo: str, tmp_path: Path, capsys: Any) -> None:
    PPO("MlpPolicy", make_cartpole(), seed=0).save(tmp_path / "model.zip")
    call = (tmp_path / "model.zip", "--env", "CartPole-v1", "--rows", 64, "--algo", algo)
    assert "model.zip: PPO after 0 steps" in doctor(capsys, *call)


def test_an_unknown_algorithm_gets_the_nearest_name_and_all_of_them(run: Path, capsys: Any) -> None:
    assert main(["doctor", str(run), "--algo", "stable_pop"]) == 2
    complaint = capsys.readouterr().err
    assert "Unknown algorithm 'stable_pop' (did you mean stable_ppo?): choose one of A2C, " in complaint
    assert "StablePPO" in complaint
    assert "or by rl_zoo3's name one of a2c, " in complaint


@pytest.mark.parametrize("name", ["CartPole-v1.zip", "best_model.zip", "last_healthy.zip"])
def test_the_report_of_a_model_is_that_of_its_run(name: str, run: Path, capsys: Any) -> None:
    assert main(["report", str(run / name)]) == 0
    assert capsys.readouterr().out.endswith(f"{run / 'report.html'}\n")
    assert (run / "report.html").is_file()


def test_a_run_and_its_models_are_one_run_to_the_report(run: Path, capsys: Any) -> None:
    assert main(["report", str(run), str(run / "best_model.zip"), str(run / "CartPole-v1.zip")]) == 0
    assert capsys.readouterr().out.endswith(f"{run / 'report.html'}\n")
    assert not Path("comparison.html").exists()


def test_the_report_of_a_model_without_a_run_says_what_to_do(tmp_path: Path, capsys: Any) -> None:
    PPO("MlpPolicy", make_cartpole(), seed=0).save(tmp_path / "model.zip")
    assert main(["report", str(tmp_path / "model.zip")]) == 2
    assert "lies in no run folder, and a report is of a run. `sb3-stable-ppo doctor " in capsys.readouterr().err


def test_json_names_the_file_that_is_examined(run: Path, capsys: Any) -> None:
    assert main(["doctor", str(run), "--rows", "64", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["subject"].startswith(f"{run / 'CartPole-v1.zip'}: StablePPO")
