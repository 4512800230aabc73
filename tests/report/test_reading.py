"""Runs are read whatever wrote them: SB3, rl_zoo3 or this package, whole or half written."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure

from helpers.envs import make_cartpole
from helpers.run_folders import write_run, write_tensorboard
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.report.page import render
from sb3_stable_ppo.report.verdict import verdict_of
from sb3_stable_ppo.runs.data import read_run
from sb3_stable_ppo.runs.folder import RunReader, RunWriter
from sb3_stable_ppo.snapshots.timeline import timeline_of


def test_a_plain_sb3_run_is_read_from_its_progress_csv_and_evaluations(tmp_path: Path) -> None:
    model = PPO("MlpPolicy", make_cartpole(), n_steps=32, batch_size=32, n_epochs=1, seed=0)
    model.set_logger(configure(str(tmp_path), ["csv"]))
    evaluation = EvalCallback(make_cartpole(), eval_freq=32, n_eval_episodes=2, log_path=str(tmp_path), verbose=0)
    model.learn(192, callback=evaluation)
    run = read_run(tmp_path)
    assert run.curves["train/approx_kl"].steps.tolist() == [128.0, 192.0]
    assert run.curves["eval/mean_reward"].steps.tolist() == [64.0, 128.0, 192.0]
    with np.load(tmp_path / "evaluations.npz") as stored:
        assert run.curves["eval/mean_reward"].values.tolist() == stored["results"].mean(axis=1).tolist()
    assert run.steps == 192
    assert run.notes == ["No health: HealthCallback was not on, or has not measured yet."]


def test_without_a_progress_csv_tensorboards_logs_are_read(tmp_path: Path) -> None:
    model = PPO("MlpPolicy", make_cartpole(), n_steps=32, batch_size=32, seed=0, tensorboard_log=str(tmp_path))
    model.learn(192)
    run = read_run(tmp_path)
    assert run.curves["train/clip_fraction"].steps.tolist() == [128.0, 192.0]
    assert run.curves["train/learning_rate"].values == pytest.approx([3e-4, 3e-4])


@pytest.mark.parametrize("place", ["", "PPO_1"])
def test_tensorboards_logs_lie_in_the_folder_or_one_below(place: str, tmp_path: Path) -> None:
    write_tensorboard(tmp_path / place)
    assert read_run(tmp_path).curves["train/loss"].steps.tolist() == [1.0, 2.0]


def test_a_run_two_folders_below_is_named_and_not_taken_for_the_folders(tmp_path: Path) -> None:
    write_tensorboard(tmp_path / "logs" / "rescue" / "PPO_1")
    write_run(tmp_path / "logs" / "ppo" / "Pong_1", rollouts=2)
    write_tensorboard(tmp_path / "logs" / "ppo" / "Pong_1" / "tensorboard")
    told = "is no run folder.* Folders in it that hold runs: logs/ppo/Pong_1, logs/rescue/PPO_1\\.$"
    with pytest.raises(UsageError, match=told):
        read_run(tmp_path)


def test_without_any_log_the_monitor_files_are_read_in_the_order_of_their_episodes(tmp_path: Path) -> None:
    env = make_vec_env("CartPole-v1", 2, seed=0, monitor_dir=str(tmp_path))
    PPO("MlpPolicy", env, n_steps=64, seed=0).learn(512)
    env.close()
    run = read_run(tmp_path)
    rows = [
        tuple(map(float, line.split(",")))
        for path in tmp_path.glob("*.monitor.csv")
        for line in path.read_text().splitlines()[2:]
    ]
    rewards = [reward for reward, _, _ in sorted(rows, key=lambda row: row[2])]
    assert len(rewards) > 5
    means = run.curves["rollout/ep_rew_mean"]
    assert means.values == pytest.approx(np.cumsum(rewards) / np.arange(1, len(rewards) + 1))
    assert means.steps[-1] == sum(length for _, length, _ in rows)


def test_a_line_that_is_half_written_is_passed_over(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    whole = read_run(folder)
    with (folder / "progress.csv").open("a") as file:
        file.write("4096")
    with (folder / "health.jsonl").open("a") as file:
        file.write('{"step": 99, "laye')
    cut = read_run(folder)
    assert len(cut.health) == len(whole.health)
    assert cut.curves["train/loss"].values.tolist() == whole.curves["train/loss"].values.tolist()


@pytest.mark.parametrize("part", ["features", "policy", "rollout", "layers", "events"])
def test_a_part_of_a_line_that_is_not_of_its_kind_is_left_out(part: str, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    lines = [json.loads(line) for line in (folder / "health.jsonl").read_text().splitlines()]
    (folder / "health.jsonl").write_text("".join(json.dumps({**line, part: 5}) + "\n" for line in lines))
    assert verdict_of(read_run(folder), timeline_of(RunReader(folder))).word


def test_a_stray_quote_costs_its_own_line(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    whole = read_run(folder).curves["train/loss"]
    lines = (folder / "progress.csv").read_text().splitlines()
    later = [lines[-1]] * 15_000  # beyond what Python's csv takes as one field
    (folder / "progress.csv").write_text("\n".join([lines[0], '4,"\0x' + "y" * 200_000, '5,"x', *lines[1:], *later]))
    found = read_run(folder)
    assert found.notes == read_run(write_run(tmp_path / "whole")).notes
    assert found.curves["train/loss"].values.tolist() == whole.values.tolist()
    head, *episodes = ["r,l,t", "1.0,5,0.1", '2.0,"6,0.2', "3.0,7,0.3"]
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "monitor.csv").write_text("\n".join(["#{}", head, *episodes]))
    assert read_run(tmp_path / "plain").curves["rollout/ep_len"].values.tolist() == [5.0, 7.0]


@pytest.mark.parametrize("name", ["run.json", "evaluations.npz", "env/config.yml"])
def test_a_file_that_is_broken_costs_no_more_than_its_own_part(name: str, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    (folder / "env").mkdir()
    (folder / name).write_text("[ : broken")
    run = read_run(folder)
    assert len(run.notes) == 1
    assert run.notes[0].startswith(f"Not read in {folder}: ")
    assert len(run.curves) == 12
    assert "Not read in" in render([run])


def test_settings_are_read_as_rl_zoo3_writes_them_and_nothing_else_is_constructed(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    (folder / "env").mkdir()
    config = folder / "env" / "config.yml"
    tag = "!!python/object/apply:collections.OrderedDict"
    config.write_text(f"{tag}\n- - - batch_size\n    - 256\n  - - policy_kwargs\n    - norm: layer\n")
    assert read_run(folder).settings == {"batch_size": 256, "policy_kwargs": {"norm": "layer"}}
    config.write_text(f"!!python/object/apply:os.system ['touch {tmp_path}/executed']")
    assert read_run(folder).settings == {}
    assert not (tmp_path / "executed").exists()


def test_on_windows_no_signal_is_sent_to_find_out_whether_a_process_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    folder = write_run(tmp_path / "run", status="running", pid=gone.pid, host=os.uname().nodename)
    monkeypatch.setattr("sb3_stable_ppo.runs.data.os", SimpleNamespace(name="nt"))  # which has no kill
    assert read_run(folder).status == "killed"
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert read_run(folder).status == "running", "without psutil nobody knows better"
    monkeypatch.undo()
    monkeypatch.setattr("sb3_stable_ppo.runs.data.os", SimpleNamespace(name="nt"))
    RunWriter(folder).describe(pid=os.getpid())
    assert read_run(folder).status == "running"


def test_a_run_whose_process_is_gone_was_killed(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    host = os.uname().nodename
    folder = write_run(tmp_path / "run", status="running", pid=gone.pid, host=host)
    assert read_run(folder).status == "killed"
    assert "gone without having recorded an end" in render([read_run(folder)])
    RunWriter(folder).describe(pid=os.getpid())
    assert read_run(folder).status == "running"
    RunWriter(folder).describe(pid=gone.pid, host="elsewhere")
    assert read_run(folder).status == "running"
