"""A trial whose worker was killed or interrupted goes on from its last checkpoint."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from helpers.processes import TESTS
from helpers.resumed_runs import assert_same_runs
from helpers.tuning import PARAMS
from sb3_stable_ppo import __version__
from sb3_stable_ppo.common import signals
from sb3_stable_ppo.studies.storage import FIRST, RETRIES, TRIES, open_storage
from sb3_stable_ppo.studies.study import SURPLUS, open_study
from sb3_stable_ppo.tuning.checkpoints import remove_checkpoints
from sb3_stable_ppo.tuning.trial import RESUMED, Plan
from sb3_stable_ppo.tuning.worker import STORAGE, arguments, work
from sb3_stable_ppo.zoo.checkpointing import CheckpointOptions
from sb3_stable_ppo.zoo.run_folder import LockedFolder

pytestmark = pytest.mark.slow(seconds=1)

EACH, OFF = CheckpointOptions(steps=64), CheckpointOptions(minutes=0)
SIGNAL = "helpers.callbacks.SignalInOneSeed"
STEPS, SEEDS = 512, (3, 4)
BASE: dict[str, Any] = {
    "policy": "StableMlpPolicy",
    "policy_kwargs": {"net_arch": [16]},
    "n_envs": 2,
    "n_steps": 32,
    "batch_size": 32,
    "n_timesteps": STEPS,
    "normalize": True,
}


def study_in(folder: Path, number: int, at: int, seed: int = SEEDS[1], pruner: str = "median") -> optuna.Study:
    """A study of one trial, in which a signal comes once at a step of one seed's run."""
    folder.mkdir()
    callback = {SIGNAL: {"at": at, "mark": str(folder / "mark"), "number": number, "seed": seed}}
    base = {**BASE, "callback": [callback]}
    plan = Plan("stable_ppo", "CartPole-v1", base, STEPS, SEEDS, 4, 1, False, folder, held=("n_steps", "batch_size"))
    facts = {**plan.facts, "package": __version__}
    study = open_study(open_storage(str(folder / "journal.log")), "s", facts, pruner, 0, 1)
    study.enqueue_trial({key: value for key, value in PARAMS.items() if not key.endswith("_pow")})
    return study


def do(folder: Path, checkpoints: CheckpointOptions = EACH, trials: Path | None = None) -> None:
    """Be a worker until the study's trial is done."""
    work(str(folder / "journal.log"), "s", trials or folder / "trials", 1, 60, "median", (), checkpoints=checkpoints)


def interrupted(folder: Path, at: int, monkeypatch: pytest.MonkeyPatch, **where: Any) -> optuna.Study:
    """A study whose worker was asked to stop, in the second seed's run; the process that asked has ended."""
    study = study_in(folder, signal.SIGTERM, at, **where)
    with signals.handled(signal.SIGTERM), pytest.raises(KeyboardInterrupt):
        do(folder)
    for fact in ("asked_to_stop", "pending"):
        monkeypatch.setattr(signals._State, fact, False)
    return study


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study whose trial nobody has disturbed."""
    folder = tmp_path_factory.mktemp("study") / "unbroken"
    study_in(folder, 0, STEPS + 1)
    do(folder, OFF)
    return folder


def trial_of(folder: Path) -> FrozenTrial:
    """The one that is complete."""
    study = optuna.load_study(study_name="s", storage=open_storage(str(folder / "journal.log")))
    (found,) = study.get_trials(states=(TrialState.COMPLETE,))
    return found


def run_of(folder: Path, seed: int, number: int = 0) -> Path:
    return folder / "trials" / f"trial_{number}" / "stable_ppo" / f"CartPole-v1_{1 + SEEDS.index(seed)}"


def assert_same_trials(folder: Path, unbroken: Path) -> None:
    """Values, evaluations and what the pruner is told are those of the undisturbed trial."""
    found, expected = trial_of(folder), trial_of(unbroken)
    assert found.value == expected.value
    assert found.params == expected.params
    assert found.user_attrs["returns"] == expected.user_attrs["returns"]
    assert len(expected.intermediate_values) == 8
    assert found.intermediate_values == expected.intermediate_values


def checkpoints_in(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.glob("trials/*/*/*/checkpoints/*"))


@pytest.mark.slow(seconds=25)
def test_a_trial_whose_worker_was_killed_ends_as_one_that_was_not(
    tmp_path: Path, unbroken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "killed"
    study = study_in(folder, signal.SIGKILL, 300)
    call = arguments("s", folder / "trials", 1, 60, "median", (), checkpoints=EACH)
    environment = {**os.environ, "PYTHONPATH": str(TESTS), STORAGE: str(folder / "journal.log")}
    assert subprocess.run([sys.executable, *call], env=environment, check=False).returncode == -signal.SIGKILL
    assert [trial.state.name for trial in study.trials] == ["RUNNING"]
    assert max(checkpoints_in(folder)) == 256
    assert not list(run_of(folder, SEEDS[0]).glob("checkpoints/*")), "that run was finished"
    do(folder)
    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE"]
    assert_same_trials(folder, unbroken)
    for seed in SEEDS:
        assert_same_runs(run_of(folder, seed), run_of(unbroken, seed), "CartPole-v1")
    told = f"went on from step 256 in {run_of(folder, SEEDS[1])}"
    assert trial_of(folder).user_attrs[RESUMED] == f"seed 4: {told}"
    assert f"Trial 1, after the tries 0, seed 4: {told}.\n" in capsys.readouterr().out
    assert not list(folder.rglob("checkpoints"))
    assert not (folder / "trials" / "trial_1").exists()


@pytest.mark.parametrize("at", [300, STEPS - 2], ids=["within", "in the last update"])
def test_an_interrupted_trial_goes_on_where_it_was_asked_to_stop(
    at: int, tmp_path: Path, unbroken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "interrupted"
    study = interrupted(folder, at, monkeypatch)
    if at == 300:
        assert [trial.state.name for trial in study.trials] == ["FAIL", "WAITING"]
        assert max(checkpoints_in(folder)) == 320, "the rollout and its update have ended"
        do(folder)
        assert "went on from step 320" in trial_of(folder).user_attrs[RESUMED]
    else:
        assert [trial.state.name for trial in study.trials] == ["COMPLETE"], "there was nothing left to do"
    assert_same_trials(folder, unbroken)
    assert checkpoints_in(folder) == []


def test_a_signal_in_a_runs_last_update_keeps_its_result_for_the_next_try(
    tmp_path: Path, unbroken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "interrupted"
    study = interrupted(folder, STEPS - 2, monkeypatch, seed=SEEDS[0])
    assert [trial.state.name for trial in study.trials] == ["FAIL", "WAITING"]
    do(folder)
    assert_same_trials(folder, unbroken)
    assert RESUMED not in trial_of(folder).user_attrs
    assert [path.name for path in (folder / "trials" / "trial_1" / "stable_ppo").iterdir()] == ["CartPole-v1_1"]


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    tmp_path: Path, unbroken: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "damaged"
    interrupted(folder, 300, monkeypatch)
    (run_of(folder, SEEDS[1]) / "checkpoints" / f"{320:012d}" / "model.zip").write_bytes(b"half")
    do(folder)
    assert "is damaged: model.zip has other bytes than were written" in capsys.readouterr().err
    assert "went on from step 256" in trial_of(folder).user_attrs[RESUMED]
    assert_same_trials(folder, unbroken)


@pytest.mark.parametrize("why", ["damaged", "elsewhere", "trained by another", "off"])
def test_a_trial_without_a_checkpoint_that_can_be_read_begins_its_broken_run_anew(
    why: str, tmp_path: Path, unbroken: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, told = tmp_path / "study", ""
    interrupted(folder, 300, monkeypatch)
    run = run_of(folder, SEEDS[1])
    if why == "damaged":
        for path in run.glob("checkpoints/*/model.zip"):
            path.write_bytes(b"half")
        told = f"None of the 3 checkpoints in {run}/checkpoints is sound: start the run anew."
    if why == "elsewhere":
        (folder / "trials").rename(folder / "of another machine")
    other = LockedFolder(run) if why == "trained by another" else None
    if other is not None:
        told = f"{run}: another process is training this run."
    do(folder, OFF if why == "off" else EACH)
    printed = capsys.readouterr().out
    trial = "Trial 1, after the tries 0, seed 4:"
    assert f"{trial} {told}" in printed
    assert f"{trial} begins anew, as there is no checkpoint that this worker can go on from.\n" in printed
    assert printed.count(trial) == 1 + bool(told)
    assert RESUMED not in trial_of(folder).user_attrs
    assert_same_trials(folder, unbroken)
    begun = [path.name for path in (folder / "trials").glob("trial_1/stable_ppo/*")]
    assert begun == ["CartPole-v1_1"], "the other seed's run was finished"
    if other is not None:
        other.release()


def test_without_checkpoints_none_is_written_and_a_signal_ends_the_trial_at_once(
    tmp_path: Path, unbroken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "off"
    study_in(folder, signal.SIGTERM, 300)
    with signals.handled(signal.SIGTERM), pytest.raises(KeyboardInterrupt):
        do(folder, OFF)
    for fact in ("asked_to_stop", "pending"):
        monkeypatch.setattr(signals._State, fact, False)
    assert not list(folder.rglob("checkpoints"))
    do(folder, OFF)
    assert_same_trials(folder, unbroken)


@pytest.mark.parametrize("end", ["pruned", "failed"])
def test_a_trial_that_has_ended_is_not_gone_on_with_and_keeps_no_checkpoint(
    end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, seen = tmp_path / "study", []
    study = study_in(folder, 0, STEPS + 1)

    def should_prune(_: object) -> bool:
        seen.append(checkpoints_in(folder))
        if end == "failed":
            raise ValueError("no such wall")
        return True

    monkeypatch.setattr(optuna.Trial, "should_prune", should_prune)
    do(folder)
    assert [trial.state.name for trial in study.trials] == ["PRUNED" if end == "pruned" else "FAIL"]
    assert seen == [[64]]
    assert checkpoints_in(folder) == []


def test_the_checkpoints_of_a_try_that_was_too_many_are_left_to_the_one_that_counts(tmp_path: Path) -> None:
    checkpoint = tmp_path / "trial_0" / "stable_ppo" / "CartPole-v1_1" / "checkpoints" / "1"
    checkpoint.mkdir(parents=True)
    attributes = {FIRST: 0, RETRIES: 1, TRIES: [0]}
    ended = {"state": TrialState.FAIL, "params": {}, "distributions": {}}
    remove_checkpoints(tmp_path, optuna.create_trial(**ended, user_attrs={**attributes, SURPLUS: True}))
    assert checkpoint.exists()
    trial = optuna.create_trial(**ended, user_attrs=attributes)
    trial.number = 2
    remove_checkpoints(tmp_path, trial)
    assert not checkpoint.parent.exists()
