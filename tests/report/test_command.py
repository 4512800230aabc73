"""The command: its files, its watch, its mistakes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stable_baselines3 import PPO

from helpers.envs import make_cartpole
from helpers.processes import LIMIT
from helpers.run_folders import health_line, write_progress, write_run, write_tensorboard
from sb3_stable_ppo.cli.app import main
from sb3_stable_ppo.runs.folder import RunWriter


def test_the_command_writes_page_gif_and_strip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "run", snapshots=6)
    gif, strip = tmp_path / "timeline.gif", tmp_path / "strip"
    assert main(["report", str(folder), "--gif", str(gif), "--strip", str(strip), "--columns", "3"]) == 0
    assert capsys.readouterr().out.split() == [str(folder / "report.html"), str(gif), str(strip / "strip.png")]
    assert getattr(Image.open(gif), "n_frames", 0) == 6
    pictures = sorted(path.name for path in strip.iterdir())
    assert len(pictures) == 3 * 3 + 2
    assert np.asarray(Image.open(strip / "conv1_000001024.png")).shape == (127, 127, 3)


@pytest.mark.slow
def test_watching_ends_with_the_run(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", status="running", pid=os.getpid(), host=os.uname().nodename)
    command = [sys.executable, "-m", "sb3_stable_ppo", "report", str(folder), "--watch", "--every", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline().strip() == f"{folder / 'report.html'}: step 40,960"
        assert '"refresh": 1,' in (folder / "report.html").read_text()
        RunWriter(folder).health(50_000, health_line())
        assert any("step 50,000" in watching.stdout.readline() for _ in range(20))
        RunWriter(folder).describe(status="finished")
        assert watching.wait(LIMIT) == 0
    assert '"refresh": null,' in (folder / "report.html").read_text()


def test_a_mistake_is_one_sentence_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty, bare = tmp_path / "empty", tmp_path / "bare"
    empty.mkdir()
    run = write_run(tmp_path / "logs" / "ppo" / "Pong_1", snapshots=3)
    for _ in range(2):
        PPO("MlpPolicy", make_cartpole(), n_steps=8, batch_size=16, tensorboard_log=str(tmp_path / "two")).learn(16)
    write_progress(bare, {"time/total_timesteps": [1], "train/loss": [0.1]})
    for args, complaint in [
        ([tmp_path / "none"], "none: there is no such folder"),
        ([empty], "empty is no run folder: nothing in it"),
        ([tmp_path / "logs"], "Folders in it that hold runs: ppo/Pong_1"),
        ([bare, "-o", tmp_path / "no" / "page.html"], "its folder does not exist"),
        ([bare, "-o", empty], "a folder"),
        ([run, "--gif", tmp_path / "no" / "timeline.gif"], "--gif"),
        ([run, "--gif", tmp_path / "timeline.html"], "the name of a GIF ends in .gif"),
        ([run, "-o", tmp_path / "page.html", "--strip", run / "run.json"], "File exists"),
        ([tmp_path / "two"], "two holds the TensorBoard logs of 2 runs: name one, or several, of PPO_1, PPO_2."),
        ([bare, "--gif", tmp_path / "timeline.gif"], "bare holds no snapshots to make pictures of"),
    ]:
        assert main(["report", *map(str, args)]) == 2, args
        shown = capsys.readouterr()
        assert complaint in " ".join(shown.err.split()), args
        assert shown.err.count("error:") == 1


def test_train_leaves_a_report_and_without_it_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["train", "--env", "CartPole-v1", "-n", "512", "--seed", "0", "--eval-freq", "-1", "-f", str(tmp_path)]
    assert main(args) == 0
    page = tmp_path / "stable_ppo" / "CartPole-v1_1" / "report.html"
    assert f"Report: {page}\n" in capsys.readouterr().out
    assert "stable_ppo on CartPole-v1" in page.read_text()
    assert json.loads((page.parent / "run.json").read_text())["pid"] == os.getpid()
    assert main([*args, "--no-report"]) == 0
    assert not (tmp_path / "stable_ppo" / "CartPole-v1_2" / "report.html").exists()


def test_the_same_run_by_two_names_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "run", rollouts=5)
    assert main(["report", str(folder), f"{folder}/../run"]) == 0
    assert capsys.readouterr().out.strip() == str(folder / "report.html")


def test_a_model_above_other_runs_is_a_mistake_and_leaves_no_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "repo" / "run", rollouts=5)
    write_tensorboard(tmp_path / "repo" / "logs" / "rescue" / "PPO_1")
    (tmp_path / "my_pong.zip").touch()
    assert main(["report", str(tmp_path / "my_pong.zip"), str(run), "-o", str(tmp_path / "page.html")]) == 2
    assert "is a model that lies in no run folder" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "page.html").exists()


def test_watching_a_run_that_is_over_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(write_run(tmp_path / "run", rollouts=5)), "--watch"]) == 0
    assert "no run goes on (run: finished), so the page is written once" in capsys.readouterr().err
