"""``train --check-determinism``: two processes, one sentence, an exit status, and nothing left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.processes import run_python
from sb3_stable_ppo.cli.app import main
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.determinism.events import Event, Record, by_env
from sb3_stable_ppo.zoo import determinism

FLAGS = ["train", "--env", "CartPole-v1", "--check-determinism"]
HASHED = """
import gymnasium as gym
class Hashed(gym.RewardWrapper):
    def reward(self, reward):
        return reward + sum(ord(name) * i for i, name in enumerate({"a", "b", "c", "d", "e", "f", "g"}))
"""


@pytest.mark.slow(seconds=30)
def test_a_run_that_is_the_same_each_time_has_exit_status_0_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*FLAGS, "--seed", "3"]) == 0
    assert capsys.readouterr().out.startswith("No difference: two runs of 3 updates with the same seed agree in all ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow(seconds=60)
def test_a_run_that_hangs_on_the_order_of_a_set_has_exit_status_1_and_is_told_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hashed.py").write_text(HASHED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    assert main([*FLAGS, "-params", "env_wrapper:'hashed.Hashed'"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert "The first difference: the reward at step 0 of rollout 0, in all 8 envs" in said[0]
    assert said[1] == "- Tried: with PYTHONHASHSEED=0 in the environment, two runs do not differ."
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == ["hashed.py"]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--seeds", "3"], "leave --seeds out"),
        (["--track"], "leave --track out"),
        (["-optimize"], "leave --optimize-hyperparameters out"),
        (["--seed", "-1"], "is a random seed, another in each run"),
    ],
)
def test_what_is_no_single_run_with_a_seed_is_refused(
    flags: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*FLAGS, *flags]) == 2
    assert told in capsys.readouterr().err


def recorded(threads: int, *rewards: float) -> Any:
    """Stands in for two processes."""
    facts = {
        "seed": 0,
        "vec_env": "DummyVecEnv",
        "device": "cpu",
        "threads": {"torch": threads},
        "environment": {"PYTHONHASHSEED": "0"},
        "tries_compiling": False,
        "by_the_clock": [],
    }
    end = Event("update", 0, -1, "weight", "a", ("0",))
    return [Record([Event("rollout", 0, 0, "value", "", *by_env([reward])), end], facts) for reward in rewards]


@pytest.mark.parametrize(
    ("then", "told"),
    [
        ((1.0, 1.0), "one thread (OMP_NUM_THREADS=1 in the environment), two runs do not differ."),
        ((1.0, 2.0), "differ too"),
    ],
)
def test_threads_are_put_to_the_test_where_torch_computes_something_else(
    then: tuple[float, float], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def twice(flags: list[str], environment: dict[str, str]) -> Any:
        calls.append((flags, environment))
        return recorded(2, 1.0, 1.0 + 1e-7) if len(calls) == 1 else recorded(1, *then)

    monkeypatch.setattr(determinism, "_recorded_twice", twice)
    found = determinism.check_command(["--env", "X"], say=lambda _: None)
    assert calls[1:] == [(["--env", "X", "--num-threads", "1"], {"OMP_NUM_THREADS": "1"})]
    assert any(told in hint for hint in found.hints)


@pytest.mark.slow(seconds=10)
def test_a_run_that_fails_is_told_with_its_own_words() -> None:
    with pytest.raises(UsageError, match=r"The run itself fails \(exit status 2\):\n.*NoSuchEnv"):
        determinism.check_command(["--env", "NoSuchEnv-v1"], say=lambda _: None)


def test_flags_of_ours_count_in_the_runs_that_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[str]] = []

    def check_command(flags: list[str], say: Any) -> Any:  # noqa: ARG001
        given.append(flags)
        raise UsageError("enough")

    monkeypatch.setattr(determinism, "check_command", check_command)
    own = ["--no-health", "--stop-at-return", "30.0", "--checkpoint-steps", "64"]
    assert main([*FLAGS, *own]) == 2
    assert given[0][:3] == ["--env", "CartPole-v1", "--no-health"]
    assert given[0][-4:] == ["--stop-at-return", "30.0", "--checkpoint-steps", "64"]


def test_help_names_the_flag_and_hides_the_inner_one() -> None:
    said = run_python("import sys; from sb3_stable_ppo.cli.train import parser; print(parser().format_help())")
    assert "--check-determinism" in said
    assert "--record-run" not in said
