"""By its arguments a run is found again: what is the same run, and what is another."""

import json
from pathlib import Path

import pytest

from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.zoo.resuming import newest_run, run_in
from sb3_stable_ppo.zoo.run_arguments import are_of_one_run, grouped, kept

LINE = ["--env", "CartPole-v1", "--algo", "ppo", "-n", "100", "--seed", "3"]


@pytest.mark.parametrize(
    "other",
    [
        ["--seed=3", "--n-timesteps", "100", "--algo", "ppo"],
        [
            *LINE,
            "--no-progress",
            "--no-report",
            "--verbose",
            "0",
            "--resume",
            "auto",
            "--task",
            "b/3",
            "-f",
            "elsewhere",
        ],
        [*LINE, "--checkpoint-minutes", "5", "--storage", "postgresql://u:pw@h/d"],
    ],
)
def test_what_is_only_shown_or_spelt_otherwise_is_the_same_run(other: list[str]) -> None:
    assert are_of_one_run(LINE, other)
    assert are_of_one_run(kept(other), LINE)


@pytest.mark.parametrize("other", [["--seed", "4"], ["-n", "200"], ["-params", "gamma:0.9"], ["--eval-freq", "-1"]])
def test_another_seed_length_or_hyperparameter_is_another_run(other: list[str]) -> None:
    assert not are_of_one_run(LINE, [*LINE, *other])


def test_without_a_seed_it_is_not_the_run_of_a_seed() -> None:
    assert not are_of_one_run(LINE, LINE[:-2])


def test_values_that_begin_with_a_minus_are_values() -> None:
    argv = ["--eval-freq", "-1", "-params", "a:1", "b:-2", "--stop-at-return", "-.5"]
    assert grouped(argv) == {
        "--eval-freq": ("-1",),
        "--hyperparams": ("a:1", "b:-2"),
        "--stop-at-return": ("-.5",),
    }
    assert grouped(kept(argv)) == grouped(argv)


def test_a_password_is_not_kept() -> None:
    assert "pw" not in "".join(kept([*LINE, "--trial-id", "3", "--storage", "postgresql://u:pw@h/d"]))


def leave(log_folder: Path, number: int, status: str, checkpoint: bool = True, **facts: object) -> Path:
    folder = log_folder / "ppo" / f"CartPole-v1_{number}"
    folder.mkdir(parents=True)
    started = f"2026-01-0{number}"
    known = {"arguments": LINE, "seed": 3, "status": status, "started": started, "num_timesteps": 100, **facts}
    (folder / "run.json").write_text(json.dumps(known))
    if checkpoint:
        (folder / "checkpoints" / "000000000064").mkdir(parents=True)
    return folder


def test_the_newest_run_that_has_ended_or_can_go_on_is_found(tmp_path: Path) -> None:
    assert newest_run(tmp_path, "ppo", LINE) is None
    leave(tmp_path, 1, "running", checkpoint=False)
    assert newest_run(tmp_path, "ppo", LINE) is None
    second = leave(tmp_path, 2, "running")
    leave(tmp_path, 3, "running", checkpoint=False)
    leave(tmp_path, 4, "finished", arguments=["--seed", "4"])
    leave(tmp_path, 5, "finished", arguments=None)
    leave(tmp_path, 6, "finished").joinpath("run.json").write_text("{")
    found = newest_run(tmp_path, "ppo", LINE)
    assert found is not None
    assert (found.folder, found.end(None)) == (second, None)
    last = leave(tmp_path, 7, "finished", checkpoint=False)
    found = newest_run(tmp_path, "ppo", LINE)
    assert found is not None
    assert found.folder == last
    assert "It has finished at step 100." in str(found.end(None))
    assert found.end(101) is None
    leave(tmp_path, 8, "running", format=99)
    with pytest.raises(UsageError, match="has format 99"):
        newest_run(tmp_path, "ppo", LINE)


@pytest.mark.parametrize(
    ("facts", "ended"),
    [
        ({"status": "running"}, False),
        ({"status": "failed"}, False),
        ({"status": "collapsed"}, False),
        ({"status": "stopped", "interrupted_by": "SIGTERM"}, False),
        ({"status": "stopped"}, True),
        ({"status": "finished"}, True),
    ],
)
def test_what_was_cut_short_has_not_ended(facts: dict[str, str], ended: bool, tmp_path: Path) -> None:
    run = run_in(leave(tmp_path, 1, **facts))  # type: ignore[arg-type]
    assert (run.end(None) is not None) == ended


def test_a_run_goes_on_with_the_seed_that_was_drawn_and_without_the_model_it_began_with(tmp_path: Path) -> None:
    arguments = ["--algo", "ppo", "-i", str(tmp_path / "gone.zip")]
    run = run_in(leave(tmp_path, 1, "running", arguments=arguments))
    words = run.arguments({"--n-timesteps": ("200",)})
    assert words == ["--algo", "ppo", "--seed", "3", "--log-folder", str(tmp_path), "--n-timesteps", "200"]
