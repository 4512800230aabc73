"""The doctor examines a model in the env that its run has trained in."""

from __future__ import annotations

import sys
from collections import OrderedDict, deque
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import yaml
from gymnasium import spaces
from gymnasium.wrappers import TimeAwareObservation
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import CheckpointCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize

from helpers.commands import run_folder, train
from helpers.doctor import doctor
from helpers.envs import SceneEnv, make_cartpole
from sb3_stable_ppo import diagnose
from sb3_stable_ppo.cli.app import main
from sb3_stable_ppo.cli.doctor_next import env_of_zip
from sb3_stable_ppo.cli.gym_packages import packages_of_arguments
from sb3_stable_ppo.cli.results import next_commands
from sb3_stable_ppo.common.packages import command_line
from sb3_stable_ppo.doctor.examination import make_env
from sb3_stable_ppo.doctor.saved_models import load_model
from sb3_stable_ppo.runs.folder import RunWriter

QUIET = ("--verbose", "0", "--no-progress", "--no-report", "--eval-freq", "-1")
REWARD = {"sutton_barto_reward": True}
"""An argument of CartPole, which changes the reward and no space."""


def has_other_reward(path: Path, env_id: str = "CartPole-v1") -> bool:
    """Whether the doctor's env for a model has that argument."""
    env = make_env(env_id, load_model(path), path, 0)
    found = env.get_attr("unwrapped")[0]._sutton_barto_reward
    env.close()
    return bool(found)


# -- arguments and wrappers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of_file", "flags", "expected"),
    [
        (REWARD, [], True),
        (None, ["--env-kwargs", "sutton_barto_reward:True"], True),
        (REWARD, ["--env-kwargs", "sutton_barto_reward:False"], False),
    ],
    ids=["file", "flag", "both"],
)
def test_the_env_has_the_arguments_of_the_run_and_those_of_the_command_line_count(
    of_file: Any, flags: list[str], expected: bool, tmp_path: Path
) -> None:
    changes = {} if of_file is None else {"env_kwargs": of_file}
    assert train(tmp_path, *QUIET, *flags, **changes) == 0
    model = run_folder(tmp_path) / "CartPole-v1.zip"
    assert has_other_reward(model) is expected
    checkpoint = run_folder(tmp_path) / "checkpoints" / "64" / "model.zip"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    elsewhere = tmp_path / "model.zip"
    for copy in (checkpoint, elsewhere):
        copy.write_bytes(model.read_bytes())
    assert has_other_reward(checkpoint) is expected
    assert not has_other_reward(elsewhere), "no run tells"


@pytest.mark.parametrize("normalize", [False, True])
def test_the_env_has_the_wrappers_of_the_run(normalize: bool, tmp_path: Path) -> None:
    wrappers = ["gymnasium.wrappers.TimeAwareObservation", {"gymnasium.wrappers.TimeLimit": {"max_episode_steps": 9}}]
    assert train(tmp_path, *QUIET, env_wrapper=wrappers, normalize=normalize, frame_stack=2) == 0
    folder = run_folder(tmp_path)
    assert doctor(folder, "--rows", 64) == 0
    assert doctor(folder / "CartPole-v1.zip", "--env", "CartPole-v1", "--rows", 64) == 0
    env = make_env("CartPole-v1", load_model(folder / "CartPole-v1.zip"), folder / "CartPole-v1.zip", 0)
    assert env.observation_space.shape == (10,)
    assert env.env_is_wrapped(TimeAwareObservation) == [True] * 4
    env.close()


def test_a_wrapper_that_is_not_there_is_one_sentence_with_a_way_without_it(tmp_path: Path, capsys: Any) -> None:
    PPO("MlpPolicy", make_cartpole(), seed=0).save(tmp_path / "model.zip")
    (tmp_path / "CartPole-v1").mkdir()
    (tmp_path / "CartPole-v1" / "config.yml").write_text("env_wrapper: no_such_module.Wrapper\n")
    assert doctor(tmp_path / "model.zip", "--env", "CartPole-v1") == 2
    complaint = capsys.readouterr().err
    assert "No module named 'no_such_module'" in complaint
    assert complaint.rstrip().endswith("--weights-only examines the weights without an env.")
    assert doctor(tmp_path / "model.zip") == 0, "weights alone need no env"


def test_without_rl_zoo3_the_settings_of_a_run_are_not_left_out_in_silence(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    PPO("MlpPolicy", make_cartpole(), seed=0).save(tmp_path / "model.zip")
    (tmp_path / "CartPole-v1").mkdir()
    (tmp_path / "CartPole-v1" / "config.yml").write_text("env_kwargs: {sutton_barto_reward: true}\n")
    monkeypatch.setattr("sb3_stable_ppo.doctor.env_settings.find_spec", lambda _: None)
    assert doctor(tmp_path / "model.zip", "--env", "CartPole-v1") == 2
    assert "rl_zoo3 reads it: pip install 'sb3-stable-ppo[zoo]'. --weights-only" in capsys.readouterr().err


def test_the_statistics_of_sb3s_checkpoint_callback_are_found_and_named(tmp_path: Path, capsys: Any) -> None:
    env = VecNormalize(make_cartpole())
    model = PPO("MlpPolicy", env, n_steps=32, batch_size=32, n_epochs=1, seed=0)
    model.learn(64, callback=CheckpointCallback(32, str(tmp_path), save_vecnormalize=True))
    zips = {path.stem: path for path in tmp_path.glob("*.zip")}
    path = zips["rl_model_64_steps"]
    doctor(str(path), "--env", "CartPole-v1", "--rows", "32")
    assert "32 observations of CartPole-v1, normalised by rl_model_vecnormalize_64_steps.pkl" in capsys.readouterr().out
    model.clip_range_vf = 0.2
    model.ep_info_buffer = deque([{"r": 20.0, "l": 20, "t": 1.0}])
    model.save(path)
    doctor(str(path), "--env", "CartPole-v1", "--rows", "32")
    assert "value_clipping_against_rewards" not in capsys.readouterr().out, "VecNormalize normalises the rewards"
    (tmp_path / "rl_model_vecnormalize_64_steps.pkl").unlink()
    doctor(str(path), "--env", "CartPole-v1", "--rows", "32")
    assert capsys.readouterr().out.splitlines()[0].endswith("32 observations of CartPole-v1")


def test_the_statistics_of_a_run_whose_env_has_a_namespace_are_found(tmp_path: Path) -> None:
    gym.register("Spaced/Pole-v0", "gymnasium.envs.classic_control:CartPoleEnv", max_episode_steps=50)
    try:
        env = VecNormalize(make_vec_env("Spaced/Pole-v0"))
        env.obs_rms.mean += 100.0
        PPO("MlpPolicy", env, n_steps=32, batch_size=32, seed=0).save(tmp_path / "Spaced-Pole-v0.zip")
        (tmp_path / "Spaced-Pole-v0").mkdir()
        env.save(str(tmp_path / "Spaced-Pole-v0" / "vecnormalize.pkl"))
        path = tmp_path / "Spaced-Pole-v0.zip"
        made = make_env("Spaced/Pole-v0", load_model(path), path, 0)
        assert np.max(made.reset()) == -10.0, "clipped"
    finally:
        del gym.registry["Spaced/Pole-v0"]


# -- images ------------------------------------------------------------------------------------------------------------


class ChannelsLast(SceneEnv):
    """As SceneEnv, with the picture as most envs give it."""

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__()
        camera = spaces.Box(0, 255, (40, 40, 3), np.uint8)
        self.observation_space = spaces.Dict({**self.observation_space.spaces, "camera": camera})

    def _observe(self) -> dict[str, np.ndarray]:
        found = super()._observe()
        return {**found, "camera": found["camera"].transpose(1, 2, 0)}


@pytest.fixture
def scene() -> Any:
    gym.register("ChannelsLast-v0", ChannelsLast)
    yield "ChannelsLast-v0"
    del gym.registry["ChannelsLast-v0"]


@pytest.mark.parametrize("n_stack", [1, 2])
def test_images_in_a_dict_are_given_with_their_channels_first_and_stacked(
    n_stack: int, scene: str, tmp_path: Path, capsys: Any
) -> None:
    env: Any = make_vec_env(scene)
    env = env if n_stack == 1 else VecFrameStack(env, n_stack)
    model = PPO("MultiInputPolicy", env, n_steps=32, batch_size=32, seed=0)
    model.save(tmp_path / "model.zip")
    assert doctor(tmp_path / "model.zip", "--env", scene, "--rows", 64) == 0
    assert "64 observations of ChannelsLast-v0" in " ".join(capsys.readouterr().out.split())


def test_diagnose_takes_images_with_their_channels_last_as_predict_does(scene: str) -> None:
    model = PPO("MultiInputPolicy", scene, n_steps=32, batch_size=32, seed=0)
    env = gym.make(scene)
    rows = [env.reset(seed=seed)[0] for seed in range(32)]
    last = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
    first = {**last, "camera": last["camera"].transpose(0, 3, 1, 2)}
    model.predict(last)
    assert diagnose(model, last).as_dict() == diagnose(model, first).as_dict()
    with pytest.raises(ValueError, match=r"camera: the policy takes batches of shape \(n, \*\(3, 40, 40\)\)"):
        diagnose(model, {**last, "camera": last["camera"][:, :, :, :2]})


# -- envs of one's own -------------------------------------------------------------------------------------------------

OWN = """
import gymnasium as gym

gym.register("DoctorsOwn-v0", "gymnasium.envs.classic_control:CartPoleEnv", max_episode_steps=50)
"""


@pytest.fixture
def own_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The folder of a run in an env that a module registers; the module has not been imported."""
    (tmp_path / "doctors_own_envs.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "logs" / "ppo" / "DoctorsOwn-v0_1"
    folder.mkdir(parents=True)
    PPO("MlpPolicy", make_cartpole(), n_steps=32, batch_size=32, seed=0).save(folder / "DoctorsOwn-v0.zip")
    arguments = ["--env", "DoctorsOwn-v0", "--gym-packages", "doctors_own_envs", "-n", "64"]
    RunWriter(folder).describe(algo="ppo", env="DoctorsOwn-v0", arguments=arguments)
    yield folder
    forget()


def forget() -> None:
    """As in a process that has not imported the module."""
    sys.modules.pop("doctors_own_envs", None)
    gym.registry.pop("DoctorsOwn-v0", None)


def test_the_doctor_of_a_run_imports_what_the_run_had_imported(own_run: Path, capsys: Any) -> None:
    assert doctor(own_run, "--rows", 64) == 0
    assert "64 observations of DoctorsOwn-v0" in " ".join(capsys.readouterr().out.split())


def test_the_doctor_of_a_zip_in_a_run_imports_it_only_where_the_model_plays_in_that_env(own_run: Path) -> None:
    model = own_run / "DoctorsOwn-v0.zip"
    for call in ([model], [model, "--weights-only"], [own_run, "--weights-only"], [model, "--env", "CartPole-v1"]):
        assert doctor(*call) == 0
        assert "doctors_own_envs" not in sys.modules, call
    assert doctor(model, "--env", "DoctorsOwn-v0", "--rows", 64) == 0


def test_a_module_of_the_run_that_is_gone_is_named_if_the_env_needs_it(own_run: Path, capsys: Any) -> None:
    (own_run.parents[2] / "doctors_own_envs.py").unlink()
    assert doctor(own_run) == 2
    complaint = capsys.readouterr().err
    assert "Unknown env 'DoctorsOwn-v0'" in complaint
    assert "No module named 'doctors_own_envs', which the run has imported" in complaint
    assert "--gym-packages MODULE registers" in complaint
    gym.register("DoctorsOwn-v0", "gymnasium.envs.classic_control:CartPoleEnv", max_episode_steps=50)
    assert doctor(own_run, "--rows", 64) == 0, "the env is there without it"


def test_the_commands_that_follow_a_run_import_what_it_had_imported(own_run: Path) -> None:
    _, examine, play = [command for command, _ in next_commands(own_run)]
    assert examine == command_line("doctor", str(own_run), "--gym-packages", "doctors_own_envs")
    logs = own_run.parents[1]
    flags = "--env DoctorsOwn-v0 --gym-packages doctors_own_envs"
    assert play == command_line("enjoy", *f"--algo ppo {flags} -f {logs} --exp-id 1".split())
    assert main([*examine.split()[1:], "--rows", "64"]) == 0
    forget()
    assert main([*play.split()[1:], "-n", "8", "--no-render"]) == 0


@pytest.mark.parametrize("name", ["DoctorsOwn-v0.zip", "best_model.zip"])
def test_the_command_that_follows_a_look_at_weights_imports_it(name: str, own_run: Path, capsys: Any) -> None:
    model = (own_run / "DoctorsOwn-v0.zip").rename(own_run / name)
    assert env_of_zip(model) == "DoctorsOwn-v0"
    assert doctor(model) == 0
    command = capsys.readouterr().out.splitlines()[-1].strip()
    flags = "--env DoctorsOwn-v0 --gym-packages doctors_own_envs"
    assert command == command_line("doctor", str(model), *flags.split())
    assert main([*command.split()[1:], "--rows", "64"]) == 0


def test_the_doctor_of_a_run_of_stock_rl_zoo3_imports_what_that_had_imported(own_run: Path) -> None:
    (own_run / "run.json").unlink()
    arguments = OrderedDict([("env", "DoctorsOwn-v0"), ("gym_packages", ["doctors_own_envs"]), ("seed", 1)])
    saved = own_run / "DoctorsOwn-v0" / "args.yml"
    saved.parent.mkdir()
    saved.write_text(yaml.dump(arguments))  # as rl_zoo3.exp_manager._save_config does
    for call in ([own_run], [own_run / "DoctorsOwn-v0.zip", "--env", "DoctorsOwn-v0"]):
        forget()
        assert doctor(*call, "--rows", 64) == 0
        assert "doctors_own_envs" in sys.modules


@pytest.mark.parametrize("text", ["", "- [gym_packages", "- - gym_packages\n  - []\n", "gym_packages: [x]", "- \0"])
def test_saved_arguments_that_name_no_modules_are_passed_over(text: str) -> None:
    assert packages_of_arguments(text) == []


def test_a_run_json_without_sound_arguments_names_no_modules(own_run: Path) -> None:
    for arguments in (None, "--gym-packages x", ["--gym-packages"], ["--gym-packages", "bad\x1b[31m"]):
        RunWriter(own_run).describe(arguments=arguments)
        assert all("--gym-packages" not in command for command, _ in next_commands(own_run)), arguments
