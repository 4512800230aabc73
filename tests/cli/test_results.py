"""What ``train`` prints when a run has ended."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sb3_stable_ppo.cli.app import main
from sb3_stable_ppo.cli.results import next_commands, print_next, print_results
from sb3_stable_ppo.common.packages import command_line


def layers(live: int) -> dict[str, Any]:
    return {"pi.fc1": {"units": 64, "live": live, "dormant_fraction": 0.0, "fault": "dead", "fault_fraction": 0.0}}


def line(step: int, live: int, mean: float | None, events: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    rollout = {"ep_rew_mean": mean, "ep_rew_std": 1.0, "episodes": 100}
    return {"step": step, "layers": layers(live), "nonfinite": None, "rollout": rollout, "events": list(events)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a run of rl_zoo3's that has learnt."""
    found = tmp_path / "logs" / "ppo" / "CartPole-v1_3"
    found.mkdir(parents=True)
    (found / "run.json").write_text(json.dumps({"env": "CartPole-v1", "algo": "ppo", "status": "finished"}))
    (found / "CartPole-v1.zip").touch()
    np.savez(found / "evaluations.npz", timesteps=[500, 1000], results=[[90.0], [80.0]], ep_lengths=[[9], [8]])
    write(found, line(100, 60, 20.0), line(1000, 50, 75.5))
    return found


def write(folder: Path, *lines: dict[str, Any]) -> None:
    (folder / "health.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))


def printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    print_results(folder)
    return " ".join(capsys.readouterr().out.split())


def test_a_run_ends_with_its_verdict_its_return_and_its_layers_at_first_and_at_last(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(folder, capsys)
    assert "Verdict: healthy. No alarm is raised at step 1,000." in text
    assert "Return: 75.5, the mean of the last 100 episodes of training." in text
    assert "Evaluations: 80.0 at step 1,000; the best 90.0 at step 500 (best_model.zip)." in text
    assert "│ pi.fc1 │ 64 │ 60 │ 50 │" in text


def test_the_verdict_of_a_run_that_died_is_its_alarm(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    event = {"name": "inactive_layer", "raised": True, "step": 900, "where": "pi.fc1", "text": "97% are [dead]"}
    write(folder, line(100, 60, 20.0), line(1000, 2, 9.0, (event,)))
    assert "Verdict: collapsed activations. 97% are [dead]." in printed(folder, capsys)


def test_a_mean_that_is_no_number_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, line(100, 60, 20.0), line(1000, 50, None))
    assert "Return: not finite, the mean of the last 100 episodes of training." in printed(folder, capsys)


def test_a_run_in_which_no_episode_ended_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, line(100, 60, 20.0) | {"rollout": None})
    assert "Return: none yet, since no episode of training has ended." in printed(folder, capsys)


def test_a_run_without_measurements_has_its_status_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("health.jsonl", "evaluations.npz"):
        (folder / name).unlink()
    text = printed(folder, capsys)
    assert "Results (finished)" in text
    assert "Return" not in text


def test_the_commands_that_follow_are_understood(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_next(folder)
    lines = [each.partition("#")[0] for each in capsys.readouterr().out.splitlines()[1:]]
    assert [shlex.split(each)[:2] for each in lines] == [
        shlex.split(command_line(name)) for name in ("report", "doctor", "enjoy")
    ]
    assert shlex.split(lines[2])[2:] == [
        *("--algo", "ppo", "--env", "CartPole-v1", "-f", str(folder.parent.parent), "--exp-id", "3"),
    ]
    assert main(shlex.split(lines[0])[1:]) == 0


def test_a_run_that_collapsed_is_not_offered_to_be_watched(folder: Path) -> None:
    (folder / "run.json").write_text(json.dumps({"env": "CartPole-v1", "algo": "ppo", "status": "collapsed"}))
    assert [words for _, words in next_commands(folder)] == [
        "the run as a page; with other runs, compared",
        "its layers beside healthy ranges",
    ]


def test_a_run_that_left_no_model_has_no_commands_that_follow(folder: Path, tmp_path: Path) -> None:
    (folder / "CartPole-v1.zip").unlink()
    assert list(next_commands(folder)) == []
    assert list(next_commands(tmp_path / "nothing")) == []
