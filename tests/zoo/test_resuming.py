"""``train --resume``: a run that was broken off ends as if nothing had happened."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from helpers.resumed_runs import (
    OFF_POLICY,
    ON_POLICY,
    PPO,
    assert_same_runs,
    break_off,
    broken_at,
    facts_of,
    run_folder,
    train,
    write_entry,
)
from sb3_stable_ppo.cli.app import main

pytestmark = pytest.mark.slow(seconds=1)

STABLE = {**PPO, "policy": "StableMlpPolicy"}
HEALTH = [{"sb3_stable_ppo.HealthCallback": {"budget": None}}]
SHORT = {"env_kwargs": {"max_episode_steps": 20}}
RUNS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ppo": ("ppo", "Pendulum-v1", {**PPO, **SHORT, "normalize": True}),
    "a2c": ("a2c", "CartPole-v1", {**ON_POLICY, "n_steps": 8, "normalize": "{'norm_reward': False}"}),
    "dqn": ("dqn", "CartPole-v1", {**OFF_POLICY, "buffer_size": 300}),
    "sac": ("sac", "Pendulum-v1", {**OFF_POLICY, **SHORT, "buffer_size": 300}),
    "td3": (
        "td3",
        "Pendulum-v1",
        {**OFF_POLICY, **SHORT, "buffer_size": 300, "noise_type": "ornstein-uhlenbeck", "noise_std": 0.3},
    ),
    "stable_ppo": (
        "stable_ppo",
        "CartPole-v1",
        {**STABLE, "frame_stack": 2, "learning_rate": {"schedule": "step", "initial": 1e-3, "step_size": 2}}
        | {"callback": HEALTH},
    ),
    "stable_ppo_mask": (
        "stable_ppo_mask",
        "Strict-v0",
        {**STABLE, "env_wrapper": "sb3_stable_ppo.envs.InfoActionMasks"},
    ),
    "stable_ppo_lstm": (
        "stable_ppo_lstm",
        "CartPoleNoVel-v1",
        {**STABLE, "policy_kwargs": {"net_arch": [8], "lstm_hidden_size": 8}},
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_is_broken_off_and_resumed_ends_as_one_that_was_not(name: str, tmp_path: Path) -> None:
    algo, env, entry = RUNS[name]
    flags = ["--algo", algo, "--env", env, "--seed", "1", "--checkpoint-steps", "60", "--eval-freq", "64"]
    flags += ["--eval-episodes", "1", "--log-interval", "1", "--gym-packages", "helpers.masked_env"]
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    broken.mkdir()
    (tmp_path / "mark").touch()
    assert train(unbroken, *flags, *write_entry(unbroken, env, entry, broken_at(tmp_path, 0))) == 0
    with pytest.raises(RuntimeError, match="the machine is gone"):
        train(broken, *flags, *write_entry(broken, env, entry, broken_at(broken, 150)))
    folder = run_folder(broken)
    assert facts_of(folder)["status"] == "failed"
    (broken / "config.yml").unlink()  # the run folder has all that is needed
    assert main(["train", "--resume", str(folder), "--no-report"]) == 0
    assert_same_runs(run_folder(unbroken), folder, env)
    facts = facts_of(folder)
    assert (facts["status"], facts["resume"], facts["error"]) == ("finished", "exact", None)
    assert [resumed["exact"] for resumed in facts["resumed"]] == [True]
    assert len(list((folder / "checkpoints").iterdir())) == 1


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    return break_off(tmp_path)


def test_n_gives_a_run_a_new_total_and_not_an_addition(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--resume", str(broken), "-n", "320", "--no-report"]) == 0
    facts = facts_of(broken)
    assert (facts["status"], facts["num_timesteps"], facts["n_timesteps"]) == ("finished", 320, 320)
    capsys.readouterr()
    assert main(["train", "--resume", str(broken), "--no-report"]) == 0
    assert "nothing is left to do. It has finished at step 320." in capsys.readouterr().out
    assert main(["train", "--resume", str(broken), "-n", "300", "--no-report"]) == 0
    assert f"`--resume {broken} -n N` with N above 320 gives it more steps." in capsys.readouterr().out
    assert facts_of(broken)["num_timesteps"] == 320
    assert main(["train", "--resume", str(broken), "-n", "352", "--no-report"]) == 0
    assert facts_of(broken)["num_timesteps"] == 352
    assert [run["step"] for run in facts_of(broken)["resumed"]] == [128, 320]


@pytest.mark.parametrize("steps", ["100", "128"])
def test_n_that_is_not_above_the_steps_already_done_is_one_sentence_and_the_run_stays_as_it_is(
    steps: str, broken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = facts_of(broken)
    assert main(["train", "--resume", str(broken), "-n", steps]) == 2
    complaint = capsys.readouterr().err.splitlines()[-1]
    assert "-n is the total number of steps; this run stands at 128 of 256. Give more than 128" in complaint
    assert facts_of(broken) == before


def test_a_run_that_was_killed_after_its_last_checkpoint_is_only_finished(tmp_path: Path) -> None:
    entry = {**STABLE, "callback": HEALTH}
    config = write_entry(tmp_path, "CartPole-v1", entry)
    line = ["--env", "CartPole-v1", "--seed", "1", "--eval-freq", "64", "--eval-episodes", "1", *config]
    for name in ("whole", "killed"):
        assert main(["train", *line, "-f", str(tmp_path / name / "logs"), "--no-report"]) == 0
    killed = run_folder(tmp_path / "killed")
    (killed / "run.json").write_text(json.dumps({**facts_of(killed), "status": "running"}))
    (killed / "CartPole-v1.zip").unlink()
    lines = (killed / "health.jsonl").read_text()
    assert main(["train", "--resume", str(killed), "-n", "256"]) == 0, "its own total may be given again"
    assert facts_of(killed)["status"] == "finished"
    assert_same_runs(run_folder(tmp_path / "whole"), killed, "CartPole-v1")
    assert (killed / "health.jsonl").read_text() == lines


def test_flags_that_agree_with_the_run_may_be_given_again(broken: Path) -> None:
    assert main(["train", "--resume", str(broken), "--env", "CartPole-v1", "--seed=1", "--algo", "ppo"]) == 0
    assert (broken / "report.html").is_file() is False  # the first call has --no-report


EXAMPLE = "logs/stable_ppo/CartPole-v1_1"
MISTAKES: list[tuple[list[str], str]] = [
    (["--env", "Pendulum-v1"], "--env Pendulum-v1 contradicts the run, which has CartPole-v1"),
    (["--algo", "a2c"], "--algo a2c contradicts the run, which has ppo"),
    (["--seed", "2"], "--seed 2 contradicts the run, which has 1"),
    (["-params", "gamma:0.9"], "the run goes on with its own settings, so that --hyperparams cannot be given"),
    (["-i", "model.zip"], "so that --trained-agent cannot be given"),
    (["-n", "many"], "--n-timesteps (-n) many: not a whole number of at least 1"),
    (["--seeds", "0-1"], "is one run, and --seeds several"),
]


@pytest.mark.parametrize(("flags", "told"), MISTAKES, ids=[each[1][:20] for each in MISTAKES])
def test_a_flag_that_contradicts_the_run_is_one_sentence(
    flags: list[str], told: str, broken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = facts_of(broken)
    assert main(["train", "--resume", str(broken), *flags]) == 2
    complaint = capsys.readouterr().err.splitlines()[-1]
    assert complaint.startswith("sb3-stable-ppo: error: ")
    assert told in complaint
    assert facts_of(broken) == before


def test_a_folder_without_a_run_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def complaint(folder: Path) -> str:
        assert main(["train", "--resume", str(folder)]) == 2
        return capsys.readouterr().err.splitlines()[-1]

    assert "there is no such folder" in complaint(tmp_path / "nowhere")
    assert "this is no run folder, as it has no run.json" in complaint(tmp_path)
    model = tmp_path / "model.zip"
    model.touch()
    assert f"this is a model. A run folder such as {EXAMPLE} is asked for" in complaint(model)
    assert complaint(model).endswith(f"A model is trained on with -i {model}, in a new run.")
    model.unlink()
    folder = tmp_path / "ppo" / "CartPole-v1_1"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"status": "running"}))
    assert f"Run folders in it: {folder}" in complaint(tmp_path)
    assert "run.json has no arguments by which the run could go on" in complaint(folder)
    (folder / "run.json").write_text(json.dumps({"format": 99, "arguments": [], "versions": {"sb3-stable-ppo": "9.0"}}))
    assert "has format 99, and this version of sb3-stable-ppo knows formats up to 1: use the version" in complaint(
        folder
    )
    (folder / "run.json").write_text("{")
    assert "run.json cannot be read" in complaint(folder)
    (folder / "run.json").write_text(json.dumps({"arguments": ["--algo", "ppo"], "seed": 0}))
    assert "config.yml cannot be read" in complaint(folder)
    (folder / "CartPole-v1").mkdir()
    (folder / "CartPole-v1" / "config.yml").write_text(json.dumps(PPO))
    assert "has no checkpoint, so that there is nothing to resume from" in complaint(folder)


@pytest.mark.parametrize("moment", ["without a checkpoint", "while its state is put back"])
def test_a_run_that_cannot_go_on_shows_no_results(
    moment: str, broken: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("another env")

    if moment == "without a checkpoint":
        shutil.rmtree(broken / "checkpoints")
    else:
        monkeypatch.setattr("sb3_stable_ppo.checkpoints.callback.set_callback_states", fail)
    before = sorted(broken.iterdir())
    arguments = [flag for flag in facts_of(broken)["arguments"] if flag != "--no-report"]
    (broken / "run.json").write_text(json.dumps({**facts_of(broken), "arguments": arguments}))
    assert main(["train", "--resume", str(broken)]) == 2
    shown = capsys.readouterr()
    assert ("has no checkpoint" if moment == "without a checkpoint" else "cannot begin: another env") in shown.err
    assert "Results" not in shown.out
    assert sorted(broken.iterdir()) == before, "there is no report either"


def test_a_damaged_checkpoint_is_skipped_in_one_line(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    newest = max((broken / "checkpoints").iterdir())
    (newest / "model.zip").write_bytes(b"half")
    assert main(["train", "--resume", str(broken)]) == 0
    printed = capsys.readouterr()
    assert "is damaged: model.zip has other bytes than were written. The one before is tried." in printed.err
    assert "Warning" not in printed.err
    assert [run["step"] for run in facts_of(broken)["resumed"]] == [64]
