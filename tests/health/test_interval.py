"""When HealthCallback measures: every= counts environment steps, every_updates= counts updates, of every algorithm."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml
from stable_baselines3 import A2C, DQN, PPO

from helpers.envs import make_cartpole
from sb3_stable_ppo import HealthCallback
from sb3_stable_ppo.cli.app import main
from sb3_stable_ppo.health.interval import health_intervals
from sb3_stable_ppo.runs.folder import RunReader
from sb3_stable_ppo.runs.interval import Interval
from sb3_stable_ppo.zoo.hyperparams import keywords_of

ROLLOUT = 64


def ppo() -> PPO:
    return PPO("MlpPolicy", make_cartpole(), n_steps=32, batch_size=64, n_epochs=1, seed=0)


def measured(model: Any, steps: int, folder: Path, **options: Any) -> list[int]:
    model.learn(steps, callback=HealthCallback(folder=folder, **options))
    return [line["step"] for line in RunReader(folder).health()]


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({}, [64, 128, 192, 256, 320]),
        ({"every": 64}, [64, 128, 192, 256, 320]),
        ({"every": 65}, [64, 192, 320]),
        ({"every": 129}, [64, 256]),
        ({"every_updates": 1}, [64, 128, 192, 256, 320]),
        ({"every_updates": 2}, [64, 192, 320]),
    ],
)
def test_on_policy_it_measures_the_first_update_and_then_each_at_the_interval(
    options: Any, steps: list[int], tmp_path: Path
) -> None:
    assert measured(ppo(), 5 * ROLLOUT, tmp_path, **options) == steps


def test_rollouts_that_are_pooled_follow_each_other_whatever_the_interval(tmp_path: Path) -> None:
    """Seven of A2C's rollouts of five steps are one measurement."""
    steps = measured(A2C("MlpPolicy", "CartPole-v1", seed=0), 200, tmp_path, every_updates=20)
    assert steps == [7 * 5, (7 + 20 + 6) * 5]


@pytest.mark.parametrize("gradient_steps", [1, 3])
@pytest.mark.parametrize(("options", "steps"), [({"every_updates": 3}, [50, 80]), ({"every": 45}, [45, 90])])
def test_off_policy_an_update_is_one_train(gradient_steps: int, options: Any, steps: list[int], tmp_path: Path) -> None:
    model = DQN("MlpPolicy", make_cartpole(1), learning_starts=20, train_freq=10, gradient_steps=gradient_steps, seed=0)
    assert measured(model, 100, tmp_path, **options) == steps  # the updates come after steps 30, 40, 50 …


def test_the_last_update_of_a_run_counts(tmp_path: Path) -> None:
    model = DQN("MlpPolicy", make_cartpole(1), learning_starts=20, train_freq=10, seed=0)
    assert measured(model, 50, tmp_path, every_updates=3) == [50]


@pytest.mark.parametrize("every", [1, 63])
def test_an_interval_below_a_rollout_measures_each_update_and_says_what_every_counts(
    every: int, tmp_path: Path
) -> None:
    message = rf"every={every}\) counts environment steps .* a rollout has 64: .* write every_updates={every}\."
    with pytest.warns(UserWarning, match=message) as warned:
        assert measured(ppo(), 2 * ROLLOUT, tmp_path, every=every) == [64, 128]
    assert sum("counts environment steps" in str(warning.message) for warning in warned) == 1


def test_an_interval_of_a_rollout_or_more_and_one_off_policy_are_not_warned_of(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measured(ppo(), ROLLOUT, tmp_path / "ppo", every=64)
        measured(DQN("MlpPolicy", make_cartpole(1), seed=0), 50, tmp_path / "dqn", every=25)


def test_the_old_name_works_and_is_warned_of_where_it_is_written() -> None:
    with pytest.warns(FutureWarning, match="every_steps is an old name.*: write every") as warned:
        callback = HealthCallback(every_steps=100)
    assert callback.on_policy_interval == callback.off_policy_interval == Interval(100, "steps")
    assert [warning.filename for warning in warned] == [__file__]


def test_the_two_intervals_of_version_0_1_keep_their_meaning_together() -> None:
    with pytest.warns(FutureWarning, match="every_steps is an old name") as warned:
        callback = HealthCallback(every=2, every_steps=100)
    assert (callback.on_policy_interval, callback.off_policy_interval) == (
        Interval(2, "updates"),
        Interval(100, "steps"),
    )
    assert [warning.filename for warning in warned] == [__file__]


def test_numbers_may_be_written_as_yaml_reads_them() -> None:
    assert health_intervals("1e3", None, None)[0] == Interval(1000, "steps")  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"every": 2}, {"every": 1, "every_steps": 500}, {"every_updates": 2}])
def test_configurations_old_and_new_train(options: dict[str, int], tmp_path: Path) -> None:
    assert options.keys() < keywords_of(HealthCallback)
    entry = {"policy": "MlpPolicy", "n_envs": 2, "n_steps": 16, "batch_size": 16, "n_epochs": 1, "n_timesteps": 64}
    config = tmp_path / "config.yml"
    config.write_text(
        yaml.safe_dump({"CartPole-v1": {**entry, "callback": [{"sb3_stable_ppo.HealthCallback": options}]}})
    )
    command = ["train", "--env", "CartPole-v1", "-conf", str(config), "-f", str(tmp_path), "--eval-freq", "-1"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert main([*command, "--no-report"]) == 0
    (folder,) = (tmp_path / "stable_ppo").iterdir()
    steps = [line["step"] for line in RunReader(folder).health()]
    assert steps == ([32] if "every_updates" in options else [32, 64])
