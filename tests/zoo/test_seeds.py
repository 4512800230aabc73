"""``train --seeds``: each seed is one run, whatever is killed."""

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.processes import LIMIT, begin, until
from helpers.run_folders import runs_in
from helpers.tuning import (
    config_with,
)
from sb3_stable_ppo import UsageError
from sb3_stable_ppo.cli.app import main
from sb3_stable_ppo.parallel.local import Job
from sb3_stable_ppo.parallel.options import WorkerOptions
from sb3_stable_ppo.zoo.resuming import newest_run
from sb3_stable_ppo.zoo.seeds import move_dead_attempt, runs_of, train_seeds

pytestmark = pytest.mark.slow(seconds=1)


def test_what_a_killed_run_left_is_moved_away_and_nothing_else(tmp_path: Path) -> None:
    for number, task in enumerate(["b/1", "b/2", None], start=1):
        folder = tmp_path / "stable_ppo" / f"CartPole-v1_{number}"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps({"task": task}))
    move_dead_attempt(tmp_path, "b/2")
    move_dead_attempt(tmp_path, "b/3")
    assert sorted(path.name for path in (tmp_path / "stable_ppo").iterdir()) == ["CartPole-v1_1", "CartPole-v1_3"]
    assert [path.name for path in (tmp_path / "crashed").iterdir()] == ["CartPole-v1_2_b_2_0"]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe{", b"[1]"])
def test_a_broken_run_json_beside_them_is_nobodys(content: bytes, tmp_path: Path) -> None:
    broken = tmp_path / "stable_ppo" / "Old_1"
    broken.mkdir(parents=True)
    (broken / "run.json").write_bytes(content)
    assert move_dead_attempt(tmp_path, "b/1") is None
    assert runs_of(tmp_path, {1: "b/1"}) == {}
    assert newest_run(tmp_path, "stable_ppo", ["--env", "CartPole-v1"]) is None
    assert broken.is_dir()


@pytest.mark.parametrize("flags", [[], ["--seeds", "0-1"]])
def test_a_log_folder_that_cannot_be_made_is_one_sentence(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A link to a disk that is not there looks like a folder that exists, and like none."""
    (tmp_path / "gone").symlink_to(tmp_path / "no_such_disk")
    (tmp_path / "file").write_text("")
    for folder in ("gone", "file"):
        assert main(["train", "--env", "CartPole-v1", "-n", "64", "-f", str(tmp_path / folder), *flags]) == 2
        assert f"--log-folder {tmp_path / folder}: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (
            ["--seeds", "x"],
            "seeds (--seeds) 'x': give a number of seeds such as 5, or seeds and ranges of seeds such as 0-9",
        ),
        (["--seeds", "0-1", "--seed", "3"], "seed (--seed) 3 is the first of a number of seeds"),
        (["--seeds", "0-1", "-optimize"], "seeds (--seeds) and -optimize do not go together"),
        (["--seeds", "0-1", "--workers", "0"], "workers (--workers) 0: no seed would be trained"),
        (["--workers", "2"], "--workers and --ray are for several runs"),
        (["--seeds", "0-1", "--worker-gpus", "1"], "worker_gpus (--worker-gpus) is for workers on Ray"),
        (["--seeds", "0-1", "--ray", "!!"], "ray (--ray) !!: no cluster answers"),
        (["-optimize", "--storage", "postgresql+psycopg://u:pw@127.0.0.1:1/d"], "--storage needs --study-name"),
        (["--seeds", "0-999999999"], "no more than 1000 at once"),
        (["--trial-id", "0"], "--trial-id needs --storage and --study-name"),
        (["-optimize", "--storage", "postgresql+psycopg://u:pw@127.0.0.1:1/d", "--study-name", "s"], "u:***@127.0.0.1"),
        (["--seeds", "0-1", "-n", "many"], "--n-timesteps (-n) many: not a whole number of at least 1"),
        (["--seeds", "0-1", "--save-freq", "many"], "seed_0: sb3-stable-ppo train: error: argument --save-freq"),
    ],
)
def test_a_mistake_in_seeds_is_one_sentence(
    args: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--env", "CartPole-v1", "-n", "64", "-f", str(tmp_path), *args]) == 2
    assert complaint in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_each_seed_is_one_run_though_a_worker_is_killed(tmp_path: Path) -> None:
    slow = config_with(tmp_path, "helpers.callbacks.Slow")
    call = ["train", "--env", "CartPole-v1", "-n", "128", "--seeds", "3-5", "--workers", "2", "--no-report"]
    launcher = begin(*call, *slow, "-f", str(tmp_path / "logs"))

    def pid() -> int:
        found = sorted((tmp_path / "logs").glob("stable_ppo/*/progress.csv"))
        begun = [path for path in found if path.read_text()]
        return json.loads((begun[0].parent / "run.json").read_text())["pid"] if begun else 0

    os.kill(until(pid), signal.SIGKILL)
    assert launcher.wait(LIMIT) == 0
    assert runs_in(tmp_path / "logs") == [(3, "finished"), (4, "finished"), (5, "finished")]
    assert len(list((tmp_path / "logs" / "crashed").iterdir())) == 1


@pytest.mark.slow
def test_ctrl_c_saves_the_seeds_that_run(tmp_path: Path) -> None:
    slow = config_with(tmp_path, "helpers.callbacks.Slow")
    call = ["train", "--env", "CartPole-v1", "-n", "100000", "--seeds", "0-1", "--workers", "2", "--no-report"]
    launcher = begin(*call, *slow, "-f", str(tmp_path / "logs"))
    until(lambda: len([p for p in (tmp_path / "logs").glob("stable_ppo/*/progress.csv") if p.read_text()]) == 2)
    launcher.send_signal(signal.SIGTERM)
    assert launcher.wait(LIMIT) == 143
    assert runs_in(tmp_path / "logs") == [(0, "stopped"), (1, "stopped")]
    assert len(list((tmp_path / "logs").glob("stable_ppo/*/CartPole-v1.zip"))) == 2


@pytest.mark.xdist_group("ray")
@pytest.mark.slow
def test_each_seed_is_one_run_on_ray_though_a_worker_is_killed(cluster: Any, tmp_path: Path) -> None:
    slow = config_with(tmp_path, "helpers.callbacks.Slow")
    call = ["train", "--env", "CartPole-v1", "-n", "192", "--seeds", "0-1", "--no-report", "--ray", cluster.address]
    launcher = begin(*call, *slow, "--workers", "2", "-f", str(tmp_path / "logs"))

    def pid() -> int:
        begun = [path for path in (tmp_path / "logs").glob("stable_ppo/*/progress.csv") if path.read_text()]
        return json.loads((begun[0].parent / "run.json").read_text())["pid"] if begun else 0

    os.kill(until(pid), signal.SIGKILL)
    assert launcher.wait(LIMIT) == 0
    assert runs_in(tmp_path / "logs") == [(0, "finished"), (1, "finished")]
    assert len(list((tmp_path / "logs" / "crashed").iterdir())) == 1


def leave_run(folder: Path, status: str, task: str) -> Path:
    """The folder of a run as ``train`` leaves it."""
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"task": task, "status": status, "num_timesteps": 64}))
    (folder / "progress.csv").write_text("time/total_timesteps,rollout/ep_rew_mean\n64,9.0\n")
    return folder


@pytest.mark.parametrize("name", ["crashed", "died"])
def test_an_attempt_that_was_moved_away_is_neither_shown_nor_moved_again(name: str, tmp_path: Path) -> None:
    moved = leave_run(tmp_path / name / "CartPole-v1_1_b_0_0", "running", "b/0")
    last = leave_run(tmp_path / "stable_ppo" / "CartPole-v1_2", "finished", "b/0")
    assert {seed: run.folder for seed, run in runs_of(tmp_path, {0: "b/0", 1: "b/1"}).items()} == {0: last}
    assert move_dead_attempt(tmp_path, "b/0") == last
    assert moved.is_dir()


def test_a_run_killed_in_its_report_is_kept_and_counts_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = leave_run(tmp_path / "stable_ppo" / "CartPole-v1_1", "finished", "b/0")
    call = ["train", "--env", "CartPole-v1", "-n", "64", "-f", str(tmp_path), "--seed", "0", "--task", "b/0"]
    assert main([*call, "--no-report"]) == 0
    assert "Results (finished)" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "stable_ppo").iterdir()] == [folder.name]
    assert not (tmp_path / "crashed").exists()


def test_of_two_attempts_side_by_side_the_finished_one_counts(tmp_path: Path) -> None:
    """As on Ray, where a machine that was cut off goes on with its run."""
    finished = leave_run(tmp_path / "stable_ppo" / "CartPole-v1_1", "finished", "b/0")
    leave_run(tmp_path / "stable_ppo" / "CartPole-v1_2", "stopped", "b/0")
    runs = runs_of(tmp_path, {0: "b/0"})
    assert [run.folder for run in runs.values()] == [finished]


@pytest.mark.slow
def test_seeds_are_trained_from_python_and_returned(tmp_path: Path) -> None:
    call = ["--env", "CartPole-v1", "-n", "64", "--no-report", *config_with(tmp_path)]
    runs = train_seeds([3, 5], call, log_folder=tmp_path / "logs", workers=2)
    assert {seed: run.status for seed, run in runs.items()} == {3: "finished", 5: "finished"}
    assert {seed: run.facts["seed"] for seed, run in runs.items()} == {3: 3, 5: 5}


class Called(Exception):
    """In place of training."""


def jobs_of(monkeypatch: pytest.MonkeyPatch, call: Callable[[], object]) -> list[Job]:
    """The jobs that a call would have done."""
    asked: list[Job] = []

    def run_jobs(_: WorkerOptions, jobs: list[Job], *__: object) -> None:
        asked.extend(jobs)
        raise Called

    monkeypatch.setattr(WorkerOptions, "run_jobs", run_jobs)
    with pytest.raises(Called):
        call()
    return asked


@pytest.mark.parametrize(
    ("flags", "seeds"),
    [
        (["--seeds", "3"], [0, 1, 2]),
        (["--seeds", "2", "--seed", "7"], [7, 8]),
        (["--seeds", "1,3,5"], [1, 3, 5]),
        (["--seeds", "5-5"], [5]),
    ],
)
def test_a_number_alone_is_how_many_seeds_are_trained_and_that_is_told(
    flags: list[str], seeds: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    call = ["train", "--env", "CartPole-v1", "-f", str(tmp_path), *flags]
    jobs = jobs_of(monkeypatch, lambda: main(call))
    assert [job.name for job in jobs] == [f"seed_{seed}" for seed in seeds]
    assert [job.argv[job.argv.index("--seed") + 1] for job in jobs] == [str(seed) for seed in seeds]
    assert [job.argv.count("--seed") for job in jobs] == [1] * len(seeds)
    told = capsys.readouterr().err
    is_number = flags[1].isdecimal()
    first, last, number = seeds[0], seeds[-1], len(seeds)
    assert (f"means {number} seeds, {first} to {last}; in version 0.1 it was the seed {number}" in told) == is_number


def test_python_and_the_command_line_mean_the_same_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def names(*args: Any, **kwargs: Any) -> list[str]:
        return [job.name for job in jobs_of(monkeypatch, lambda: train_seeds(*args, log_folder=tmp_path, **kwargs))]

    assert names(2) == names([0, 1]) == names("0-1") == ["seed_0", "seed_1"]
    assert names(2, seed=4) == ["seed_4", "seed_5"]
    with pytest.warns(FutureWarning, match="means 2 seeds, 0 to 1; in version 0.1 it was the seed 2 alone"):
        assert names("2") == ["seed_0", "seed_1"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"flags": ["--seed", "1"]}, "flags has --seed: seed= and seeds= say which seeds are trained"),
        ({"flags": ["--seed=1"]}, "flags has --seed: seed= and seeds= say which seeds are trained"),
        ({"flags": ["-optimize"]}, "seeds (--seeds) and -optimize do not go together"),
        ({"seed": 3}, "seed (--seed) 3 is the first of a number of seeds"),
        ({"workers": 0}, "workers (--workers) 0: no seed would be trained"),
    ],
)
def test_a_wrong_argument_in_python_names_the_argument(
    arguments: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=re.escape(complaint)):
        train_seeds("0-1", log_folder=tmp_path / "logs", **arguments)
    assert not (tmp_path / "logs").exists()
