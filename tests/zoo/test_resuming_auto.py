"""``train --resume auto``: one line begins a run, goes on with it, and leaves it alone once it has ended."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from helpers.processes import TESTS
from helpers.resumed_runs import (
    CARTPOLE,
    PPO,
    SIGNAL,
    break_off,
    broken_at,
    facts_of,
    run_folder,
    train,
    write_entry,
)
from sb3_stable_ppo.cli.app import main

pytestmark = pytest.mark.slow(seconds=1)


def test_one_line_can_be_requeued_for_ever(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_entry(tmp_path, "CartPole-v1", PPO, broken_at(tmp_path, 150))
    line = [*CARTPOLE, "--checkpoint-steps", "64", *config, "--resume", "auto"]
    with pytest.raises(RuntimeError):
        train(tmp_path, *line)
    assert train(tmp_path, *line) == 0
    assert train(tmp_path, *line) == 0
    assert "nothing is left to do. It has finished at step 256." in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "logs" / "ppo").iterdir()] == ["CartPole-v1_1"]
    assert train(tmp_path, *line, "--seed", "2") == 0
    assert train(tmp_path, *line, "-n", "64") == 0
    assert sorted(path.name for path in (tmp_path / "logs" / "ppo").iterdir())[1:] == ["CartPole-v1_2", "CartPole-v1_3"]
    assert [facts_of(run_folder(tmp_path, number))["seed"] for number in (1, 2, 3)] == [1, 2, 1]


@pytest.mark.parametrize("flags", [["-n", "320"], []], ids=["-n", "the entry's steps"])
def test_auto_goes_on_to_its_own_total_where_n_has_ended_the_run_before(flags: list[str], tmp_path: Path) -> None:
    config = write_entry(tmp_path, "CartPole-v1", PPO, broken_at(tmp_path, 150))
    line = [*CARTPOLE, "--checkpoint-steps", "64", *config, *flags, "--resume", "auto"]
    with pytest.raises(RuntimeError):
        train(tmp_path, *line)
    folder = run_folder(tmp_path)
    assert main(["train", "--resume", str(folder), "-n", "160", "--no-report"]) == 0
    assert (facts_of(folder)["status"], facts_of(folder)["num_timesteps"]) == ("finished", 160)
    total = int(flags[-1]) if flags else PPO["n_timesteps"]
    for _ in range(2):
        assert train(tmp_path, *line) == 0
        facts = facts_of(folder)
        assert facts["status"] == "finished"
        assert facts["num_timesteps"] == facts["ends_at"] == facts["n_timesteps"] == total
        assert [run["step"] for run in facts["resumed"]] == [128, 160]


def test_a_total_that_was_raised_stays_for_auto(tmp_path: Path) -> None:
    broken = break_off(tmp_path)
    line = [*CARTPOLE, "--checkpoint-steps", "64", "--conf-file", str(tmp_path / "config.yml"), "--resume", "auto"]
    (tmp_path / "mark").unlink()
    with pytest.raises(RuntimeError):  # it is broken off once more
        main(["train", "--resume", str(broken), "-n", "320", "--no-report"])
    assert train(tmp_path, *line) == 0
    assert (facts_of(broken)["num_timesteps"], facts_of(broken)["n_timesteps"]) == (320, 320)


def test_auto_takes_a_run_that_has_reached_its_return_for_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_entry(tmp_path, "CartPole-v1", PPO, broken_at(tmp_path, 150))
    line = [*CARTPOLE, *config, "-n", "2048", "--stop-at-return", "5", "--checkpoint-steps", "64", "--resume", "auto"]
    with pytest.raises(RuntimeError):
        train(tmp_path, *line)
    folder = run_folder(tmp_path)
    assert main(["train", "--resume", str(folder), "-n", "1024", "--no-report"]) == 0
    facts = facts_of(folder)
    assert facts["status"] == "finished"
    assert facts["num_timesteps"] < 1024
    capsys.readouterr()
    assert train(tmp_path, *line) == 0
    assert "nothing is left to do" in capsys.readouterr().out
    assert facts_of(folder) == facts


def test_a_run_that_a_callback_has_ended_has_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stop = {"stable_baselines3.common.callbacks.StopTrainingOnMaxEpisodes": {"max_episodes": 2}}
    line = [*CARTPOLE, *write_entry(tmp_path, "CartPole-v1", PPO, stop), "--resume", "auto"]
    assert train(tmp_path, *line) == 0
    assert facts_of(run_folder(tmp_path))["status"] == "stopped"
    assert train(tmp_path, *line) == 0
    assert "A callback has ended it at step" in capsys.readouterr().out


@pytest.mark.slow(seconds=40)
def test_seeds_that_were_interrupted_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    marks = write_entry(tmp_path, "CartPole-v1", PPO, broken_at(tmp_path, 150, SIGNAL, number=int(signal.SIGKILL)))
    line = ["train", "--seeds", "0-1", *CARTPOLE[:4], "--eval-freq", "-1", "--checkpoint-steps", "64", *marks]
    line += ["-f", str(tmp_path / "logs"), "--no-report", "--resume", "auto"]
    assert main(line) == 0
    runs = [facts_of(run_folder(tmp_path, number)) for number in (1, 2)]
    assert sorted((facts["seed"], facts["status"]) for facts in runs) == [(0, "finished"), (1, "finished")]
    assert [len(facts.get("resumed", [])) for facts in runs] == [1, 0]
    assert not (tmp_path / "logs" / "crashed").exists()
    assert main(line) == 0
    assert [facts_of(run_folder(tmp_path, number))["started"] for number in (1, 2)] == [run["started"] for run in runs]
