"""``doctor`` ends with what its reader does next."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3 import PPO

from helpers.diagnosis import fill
from helpers.doctor import doctor
from helpers.envs import make_cartpole, make_pong
from sb3_stable_ppo.cli.doctor_next import env_of_zip
from sb3_stable_ppo.common.packages import command_line


def saved(path: Path, model: Any = None) -> Path:
    (model or PPO("MlpPolicy", make_cartpole(), n_steps=32, batch_size=32, seed=0)).save(path)
    return path


def test_a_zip_without_an_env_gets_the_command_to_type_whose_path_can_be_copied(tmp_path: Path, capsys: Any) -> None:
    model = saved(tmp_path / f"{'a name that a terminal would wrap ' * 3}.zip")
    assert doctor(model) == 0
    lines = capsys.readouterr().out.splitlines()
    (command,) = [line.strip() for line in lines if "sb3-stable-ppo doctor " in line]
    assert shlex.split(command) == shlex.split(command_line("doctor", str(model), "--env", "ID"))
    assert "nobody can tell whether the network lives" in " ".join(" ".join(lines).split())
    assert "the zip does not name it" in lines[-1]


def test_the_command_names_the_env_where_the_zips_place_tells_it(tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "CartPole-v1_1"
    folder.mkdir()
    assert doctor(saved(folder / "best_model.zip"), "--weights-only") == 0
    assert capsys.readouterr().out.endswith("best_model.zip --env CartPole-v1\n")


@pytest.mark.parametrize(
    ("place", "env"),
    [
        ("CartPole-v1.zip", "CartPole-v1"),
        ("CartPole-v1", "CartPole-v1"),
        ("Acrobot-v1_12/best_model.zip", "Acrobot-v1"),
        ("my_pong.zip", None),
        ("Pong/best_model.zip", None),
        ("run/model.zip", "Pendulum-v1"),
        ("run/checkpoints/model.zip", "Pendulum-v1"),
        ("broken/model.zip", None),
        ("gone/model.zip", None),
    ],
)
def test_an_env_is_named_by_a_run_or_by_rl_zoo3s_names_and_only_if_it_exists(
    place: str, env: str | None, tmp_path: Path
) -> None:
    for folder, content in {"run": '{"env": "Pendulum-v1"}', "broken": "{", "gone": '{"env": "Nobody-v0"}'}.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "run.json").write_text(content)
    assert env_of_zip(tmp_path / place) == env


def test_a_dead_network_is_sent_to_the_page_once_and_a_live_one_nowhere(tmp_path: Path, capsys: Any) -> None:
    model = PPO("CnnPolicy", make_pong(1), seed=0)
    fill(model.policy.features_extractor.cnn[2], -1.0)
    dead = saved(tmp_path / "dead.zip", model)
    assert doctor(dead, "--env", "PongNoFrameskip-v4", "--rows", 32) == 1
    shown = capsys.readouterr().out
    assert shown.count("docs/rescue_a_dead_agent.md") == 1
    assert shown.splitlines()[-1].startswith('The page "Rescue a dead agent"')
    assert "They are other observations than the run's, so the figures differ" in " ".join(shown.split())
    assert doctor(saved(tmp_path / "live.zip"), "--env", "CartPole-v1", "--rows", 64) == 0
    shown = capsys.readouterr().out
    assert "docs/" not in shown
    assert "sb3-stable-ppo doctor" not in shown


def test_json_stays_json(tmp_path: Path, capsys: Any) -> None:
    assert doctor(saved(tmp_path / "model.zip"), "--json") == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "not ruled out"
