"""``vec_env`` in a configuration: EnvPool's envs through rl_zoo3, evaluated in Gymnasium's; workers that may die."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from stable_baselines3.common.vec_env import VecNormalize

from helpers.packages import needs_envpool
from helpers.zoo_envs import remembered_envs
from sb3_stable_ppo.cli.app import main
from sb3_stable_ppo.envs.envpool_vec_env import EnvPoolVecEnv
from sb3_stable_ppo.envs.restarting_vec_env import RestartingVecEnv
from sb3_stable_ppo.zoo.manager import StableExperimentManager

PENDULUM: dict[str, Any] = {
    "policy": "MlpPolicy",
    "n_envs": 2,
    "n_steps": 16,
    "batch_size": 16,
    "n_epochs": 1,
    "n_timesteps": 32,
    "vec_env": "envpool",
}


def train(tmp_path: Path, *flags: str, env_id: str = "Pendulum-v1", **changes: Any) -> int:
    path = tmp_path / "config.yml"
    path.write_text(yaml.safe_dump({env_id: {**PENDULUM, **changes}}))
    return main(["train", "--env", env_id, "-conf", str(path), "-f", str(tmp_path / "logs"), "--seed", "0", *flags])


@needs_envpool
@pytest.mark.parametrize("normalize", [False, True])
def test_training_is_on_envpool_and_evaluation_in_gymnasium(
    normalize: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = remembered_envs(monkeypatch)
    assert train(tmp_path, "--eval-freq", "1000000", normalize=normalize) == 0
    assert isinstance(made[False].unwrapped, EnvPoolVecEnv)
    assert not isinstance(made[True].unwrapped, EnvPoolVecEnv)
    assert isinstance(made[False], VecNormalize) is normalize
    assert (tmp_path / "logs" / "stable_ppo" / "Pendulum-v1_1" / "0.monitor.csv").is_file()


@needs_envpool
def test_one_hyperparameter_on_the_command_line_asks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models: list[Any] = []
    learn = StableExperimentManager.learn
    monkeypatch.setattr(
        StableExperimentManager, "learn", lambda self, model: (models.append(model), learn(self, model))
    )
    assert train(tmp_path, "--hyperparams", "vec_env:'envpool'", vec_env="dummy") == 0
    assert isinstance(models[0].env.unwrapped, EnvPoolVecEnv)


@needs_envpool
@pytest.mark.parametrize(
    ("env_id", "changes", "complaint"),
    [
        ("Taxi-v4", {}, "vec_env: envpool: EnvPool has no env 'Taxi-v4'.*Or choose vec_env: dummy"),
        ("Pendulum-v1", {"frame_stack": 2}, "cannot take frame_stack, here 2: its envs are not in Python"),
        ("Pendulum-v1", {"env_kwargs": {"g": 9.8}}, "cannot take env_kwargs, here g: its envs are not in Python"),
        (
            "Pendulum-v1",
            {"env_wrapper": "gymnasium.wrappers.FlattenObservation"},
            "cannot take env_wrapper, here gymnasium.wrappers.FlattenObservation",
        ),
    ],
)
def test_what_envpool_cannot_do_is_one_sentence_with_status_2(
    env_id: str, changes: Any, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path, env_id=env_id, **changes) == 2
    assert re.search(complaint, " ".join(capsys.readouterr().err.split()))
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--hyperparams", "vec_env:'envpol'"], "error: --hyperparams: Unknown vec_env 'envpol'"),
        (["--hyperparams", "vec_env:'ale'"], "--hyperparams: vec_env: ale is for Atari games"),
    ],
)
def test_what_the_command_line_says_is_not_blamed_on_the_file(
    flags: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path, *flags) == 2
    assert re.search(complaint, " ".join(capsys.readouterr().err.split()))


def test_options_of_the_vec_env_reach_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models: list[Any] = []
    learn = StableExperimentManager.learn
    monkeypatch.setattr(
        StableExperimentManager, "learn", lambda self, model: (models.append(model), learn(self, model))
    )
    options = {"start_method": "fork", "timeout": 42, "max_restarts": 3}
    assert train(tmp_path, "--eval-freq", "-1", vec_env="restarting", vec_env_kwargs=options) == 0
    env = models[0].env.unwrapped
    assert isinstance(env, RestartingVecEnv)
    assert (env.remotes[0].link._timeout, env.remotes[0]._limit.max_restarts) == (42, 3)


@pytest.mark.parametrize(
    ("changes", "flags", "complaint"),
    [
        (
            {"vec_env": "restart"},
            [],
            "Unknown vec_env 'restart': choose one of ale, envpool, dummy, subproc, restarting",
        ),
        ({}, ["--vec-env", "restart"], "error: --vec-env: Unknown vec_env 'restart'"),
        (
            {"vec_env": "restarting", "vec_env_kwargs": {"max_restart": 3}},
            [],
            r"vec_env: restarting has no option 'max_restart' \(did you mean max_restarts\?\); its options are",
        ),
        (
            {"vec_env": "dummy", "vec_env_kwargs": {"timeout": 3}},
            [],
            "dummy has no option 'timeout'; it has no options",
        ),
        ({"vec_env": "restarting", "vec_env_kwargs": 3}, [], "vec_env_kwargs must be options with their values, not 3"),
        ({"vec_env": "restarting", "vec_env_kwargs": {"timeout": 0}}, [], "timeout must be a number of at least 0.001"),
    ],
)
def test_a_wrong_vec_env_or_option_is_one_sentence_with_status_2(
    changes: dict[str, Any], flags: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path, *flags, **changes) == 2
    assert re.search(complaint, " ".join(capsys.readouterr().err.split()))
    assert not list(tmp_path.glob("logs/*/*"))
