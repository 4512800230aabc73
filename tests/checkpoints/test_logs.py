"""Logs go on where the checkpoint was, and what was logged after it is gone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import CSVOutputFormat, Logger, configure
from stable_baselines3.common.vec_env import SubprocVecEnv

from helpers.resumed import CLOCK, Killer, Setup, assert_goes_on_exactly, go_on, train
from sb3_stable_ppo.checkpoints import RunCheckpoint, resume
from sb3_stable_ppo.checkpoints.folder import newest_checkpoint
from sb3_stable_ppo.checkpoints.logs import AppendingCSV, ContinuedInterval


def ppo(env: Any, **options: Any) -> PPO:
    policy_kwargs = {"net_arch": [8]}
    return PPO("MlpPolicy", env, n_steps=32, batch_size=32, n_epochs=1, policy_kwargs=policy_kwargs, seed=1, **options)


def cartpole() -> Any:
    return make_vec_env("CartPole-v1", n_envs=2, seed=3)


def test_json_and_text_go_on(tmp_path: Path) -> None:
    setup = Setup(cartpole, ppo, formats=("csv", "json", "log"))
    assert_goes_on_exactly(setup, tmp_path, total=512, every=128, kill_at=460)
    unbroken, broken = (
        [
            {key: value for key, value in json.loads(line).items() if key not in CLOCK}
            for line in (tmp_path / name / "progress.json").read_text().splitlines()
        ]
        for name in ("unbroken", "broken")
    )
    assert broken == unbroken
    steps = [
        re.findall(r"total_timesteps\s*\|\s*(\d+)", (tmp_path / name / "log.txt").read_text())
        for name in ("unbroken", "broken")
    ]
    assert steps[0] == steps[1] == [str(64 * number) for number in range(1, 9)]


def test_a_log_that_the_kill_has_torn_is_mended(tmp_path: Path) -> None:
    setup = Setup(cartpole, ppo)
    train(setup, tmp_path, 512, every=128, kill_at=460)
    path = tmp_path / "progress.csv"
    path.write_text(path.read_text()[:100])
    go_on(setup, tmp_path)
    assert path.read_text().count("\n") == 1 + 8


def test_tensorboard_hides_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    setup = Setup(cartpole, ppo, formats=("tensorboard",))
    train(setup, tmp_path, 512, every=128, kill_at=460)
    go_on(setup, tmp_path)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Scalars("rollout/ep_rew_mean")] == [64 * number for number in range(1, 9)]


def test_a_run_folder_may_be_moved(tmp_path: Path) -> None:
    setup = Setup(cartpole, ppo)
    train(setup, tmp_path / "here", 512, every=128, kill_at=460)
    (tmp_path / "here").rename(tmp_path / "there")
    go_on(setup, tmp_path / "there")
    assert (tmp_path / "there" / "progress.csv").read_text().count("\n") == 1 + 8
    assert not (tmp_path / "here").exists()


def test_a_run_with_tensorboard_log_goes_on_in_its_folder(tmp_path: Path) -> None:
    from sb3_stable_ppo.checkpoints import RunCheckpoint, resume

    model = ppo(cartpole(), tensorboard_log=str(tmp_path))
    model.learn(128, callback=[Killer(), RunCheckpoint(every=64)])
    resume(tmp_path / "PPO_1", cartpole(), Killer(), total_timesteps=256)
    assert [path.name for path in tmp_path.iterdir()] == ["PPO_1"]
    assert len(list((tmp_path / "PPO_1" / "checkpoints").iterdir())) == 3


def test_new_columns_are_added_to_lines_that_are_there(tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    path.write_text("a,b\n1,2\n")
    writer = AppendingCSV(str(path))
    writer.write({"a": 3, "b": 4}, {})
    writer.write({"a": 5, "c": 6}, {})
    writer.close()
    assert path.read_text() == "a,b,c\n1,2,\n3,4,\n5,,6\n"


def test_an_interval_goes_on() -> None:
    assert [1 + 2 + number for number in range(6) if (number + 1) % ContinuedInterval(3, before=2) == 0] == [3, 6]


def test_a_log_of_another_name_is_told_and_checkpoints_are_written(tmp_path: Path) -> None:
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=32, batch_size=32, n_epochs=1)
    model.set_logger(Logger(str(tmp_path), [CSVOutputFormat(str(tmp_path / "metrics.csv"))]))
    model.learn(64, callback=RunCheckpoint(every=32))
    facts = newest_checkpoint(tmp_path).facts
    assert facts["not_saved"] == ["the log metrics.csv is not continued, only progress.csv is"]


def test_a_monitors_file_that_was_emptied_is_told_with_the_cure(tmp_path: Path) -> None:
    def env() -> Any:
        return make_vec_env("CartPole-v1", n_envs=1, seed=0, monitor_dir=str(tmp_path), vec_env_cls=SubprocVecEnv)

    first = env()
    model = PPO("MlpPolicy", first, n_steps=128, batch_size=64, n_epochs=1)
    model.set_logger(configure(str(tmp_path), ["csv"]))
    with pytest.warns(UserWarning, match="continues, not bit for bit"):
        model.learn(256, callback=RunCheckpoint(every=128))
    first.close()
    second = env()
    with pytest.warns(UserWarning, match=r"0.monitor.csv has lost .* monitor_kwargs=\{'override_existing': False\}"):
        resume(tmp_path, second, total_timesteps=384)
    second.close()
