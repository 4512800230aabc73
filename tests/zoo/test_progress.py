"""While a run trains, the terminal tells its return and its layers; it ends early where it was asked to."""

import json
import re
from pathlib import Path

import pytest

from sb3_stable_ppo.cli.app import main

pytestmark = pytest.mark.slow(seconds=1)

TRAIN = ["train", "--env", "CartPole-v1", "--seed", "1", "--no-report"]


def run_json(folder: Path) -> dict[str, object]:
    facts: dict[str, object] = json.loads((folder / "stable_ppo/CartPole-v1_1/run.json").read_text())
    return facts


def test_lines_tell_step_return_and_live_units(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TRAIN, "-n", "4096", "-f", str(tmp_path)]) == 0
    lines = re.findall(r"^step +([\d,]+)   return +([\d.]+) \(\d+ episodes\)(.*)$", capsys.readouterr().out, re.M)
    steps = [int(step.replace(",", "")) for step, *_ in lines]
    assert steps == sorted(set(steps))
    assert 10 <= len(steps) <= 40
    assert re.fullmatch(r"   live: pi.fc1 \d+/64, pi.fc2 \d+/64, vf.fc1 \d+/64, vf.fc2 \d+/64", lines[-1][2])


def test_without_the_bar_sb3s_tables_stand_instead(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TRAIN, "--no-progress", "-n", "1024", "-f", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "ep_rew_mean" in shown
    assert not re.search(r"^step +\d", shown, re.M)


def test_a_run_that_reaches_the_return_asked_for_is_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*TRAIN, "-n", "30000", "--stop-at-return", "40", "-f", str(tmp_path)]) == 0
    facts = run_json(tmp_path)
    assert facts["status"] == "finished"
    assert facts["num_timesteps"] < 30_000  # type: ignore[operator]
    assert "at least 40: training ends at step" in capsys.readouterr().out


def test_each_of_several_seeds_ends_where_it_may(tmp_path: Path) -> None:
    flags = ["--seeds", "2", "-n", "20000", "--stop-at-return", "30", "-f", str(tmp_path)]
    assert main([*TRAIN[:3], "--no-report", *flags]) == 0
    ends = [json.loads(path.read_text())["num_timesteps"] for path in tmp_path.glob("stable_ppo/*/run.json")]
    assert len(ends) == 2
    assert max(ends) < 20_000
