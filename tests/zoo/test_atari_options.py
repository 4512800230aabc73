"""``vec_env:`` in a configuration: ALE's vector env through rl_zoo3, evaluated on the stock env."""

import re
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3.common.vec_env import SubprocVecEnv, VecMonitor, VecTransposeImage, is_vecenv_wrapped

from helpers.zoo_envs import PONG, remembered_envs, train_pong
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.envs.atari_vec_env import AtariVecEnv
from sb3_stable_ppo.fast.rollout_buffer import TorchRolloutBuffer
from sb3_stable_ppo.zoo.atari_options import ATARI_WRAPPER, ale_options
from sb3_stable_ppo.zoo.manager import StableExperimentManager
from sb3_stable_ppo.zoo.vec_envs import batch_vec_env


def test_training_is_on_ales_env_and_evaluation_on_the_stock_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = remembered_envs(monkeypatch)
    buffer = "sb3_stable_ppo.TorchRolloutBuffer"
    assert train_pong(tmp_path, "--eval-freq", "1000000", rollout_buffer_class=buffer) == 0
    assert isinstance(made[False], AtariVecEnv)
    assert isinstance(made[True], VecTransposeImage)
    assert made[True].observation_space == made[False].observation_space
    folder = tmp_path / "logs" / "stable_ppo" / "PongNoFrameskip-v4_1"
    assert (folder / "0.monitor.csv").read_text().splitlines()[1] == "r,l,t"


def test_the_buffer_of_a_configuration_is_the_class_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models: list[Any] = []
    learn = StableExperimentManager.learn
    monkeypatch.setattr(
        StableExperimentManager, "learn", lambda self, model: (models.append(model), learn(self, model))
    )
    assert train_pong(tmp_path, rollout_buffer_class="sb3_stable_ppo.TorchRolloutBuffer") == 0
    assert isinstance(models[0].rollout_buffer, TorchRolloutBuffer)


@pytest.mark.slow
def test_subproc_is_one_word_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    managers: list[Any] = []
    learn = StableExperimentManager.learn
    monkeypatch.setattr(
        StableExperimentManager, "learn", lambda self, model: (managers.append(self), learn(self, model))
    )
    assert train_pong(tmp_path, vec_env="subproc") == 0
    assert managers[0].vec_env_class is SubprocVecEnv


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"vec_env": "pool"}, "Unknown vec_env 'pool'.*choose one of ale, envpool, dummy, subproc"),
        ({"env_wrapper": None}, "stands in for the wrapper .*AtariWrapper and no other, here: none"),
        ({"env_wrapper": [{ATARI_WRAPPER: {"noops": 3}}]}, "cannot pass on 'noops'"),
        ({"env_kwargs": {"mode": 1}}, "cannot pass on 'mode'"),
        ({"n_envs": 0}, "n_envs must be a whole number of at least 1, not 0"),
        ({"frame_stack": -1}, "frame_stack must be a whole number of at least 1, not -1"),
        (
            {"rollout_buffer_class": "TorchRolloutBuffer"},
            "is not a dotted path, such as sb3_stable_ppo.TorchRolloutBuffer",
        ),
        ({"rollout_buffer_class": "sb3_stable_ppo.NoBuffer"}, "rollout_buffer_class 'sb3_stable_ppo.NoBuffer' cannot"),
    ],
)
def test_what_ales_env_cannot_do_is_one_sentence_with_status_2(
    changes: Any, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_pong(tmp_path, **changes) == 2
    assert re.search(complaint, capsys.readouterr().err.replace("\n", " "))
    assert not (tmp_path / "logs").exists()


def test_the_wrappers_arguments_are_passed_on() -> None:
    wrapper = {ATARI_WRAPPER: {"terminal_on_life_loss": False, "noop_max": 10, "action_repeat_probability": 0.25}}
    options = ale_options({**PONG, "env_wrapper": [wrapper], "frame_stack": 2}, "PongNoFrameskip-v4", "here")
    assert options == {
        "terminal_on_life_loss": False,
        "noop_max": 10,
        "action_repeat_probability": 0.25,
        "frame_stack": 2,
    }
    assert batch_vec_env({**PONG, "vec_env": "dummy"}, "PongNoFrameskip-v4", "here") is None
    with pytest.raises(UsageError, match="Unknown vec_env"):
        batch_vec_env({**PONG, "vec_env": 3}, "PongNoFrameskip-v4", "here")


@pytest.mark.slow
def test_what_the_flags_say_of_the_env_is_not_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train_pong(tmp_path, "--env-kwargs", "repeat_action_probability:0.25") == 2
    assert "cannot pass on 'repeat_action_probability'" in " ".join(capsys.readouterr().err.split())
    managers: list[Any] = []
    learn = StableExperimentManager.learn
    monkeypatch.setattr(
        StableExperimentManager, "learn", lambda self, model: (managers.append((self, model)), learn(self, model))
    )
    assert train_pong(tmp_path, "--vec-env", "subproc") == 0
    assert managers[0][0].vec_env_class is SubprocVecEnv
    assert train_pong(tmp_path, vec_env_wrapper="stable_baselines3.common.vec_env.VecMonitor") == 0
    assert is_vecenv_wrapped(managers[1][1].env, VecMonitor)
    assert isinstance(managers[1][1].env.unwrapped, AtariVecEnv)


def test_an_id_that_skips_frames_by_itself_is_refused_since_it_would_be_evaluated_otherwise() -> None:
    with pytest.raises(UsageError, match=r"ALE/Pong-v5 repeats actions by itself.*choose the id that ends in NoFrame"):
        ale_options(PONG, "ALE/Pong-v5", "here")
