"""Workers: which study they take, and what they do when a trial is taken from them or interrupted."""

import re
import signal
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from helpers.tuning import study_of
from sb3_stable_ppo import __version__
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.common.signals import handled
from sb3_stable_ppo.studies.space import VERSION
from sb3_stable_ppo.studies.storage import open_storage, requeue
from sb3_stable_ppo.studies.study import (
    effective_trials,
)
from sb3_stable_ppo.tuning.trial import Plan
from sb3_stable_ppo.tuning.worker import work

VERSIONS: dict[str, Any] = {"search_space": VERSION, "package": __version__}


def facts_of_a_plan(tmp_path: Path) -> dict[str, Any]:
    return {**Plan("stable_ppo", "CartPole-v1", {}, 1, (0,), 1, 1, False, tmp_path).facts, **VERSIONS}


@pytest.mark.parametrize(
    ("name", "plan", "complaint"),
    [
        ("s", {**VERSIONS, "package": "0.0.1"}, "The study 's' is of another package: '0.0.1', here '"),
        ("s", {**VERSIONS, "search_space": 0}, "The study 's' is of another search_space: 0, here 1 or 2 or 3"),
        ("other", VERSIONS, "There is no study 'other' in this storage: do all machines see the same one?"),
    ],
)
def test_a_worker_that_does_not_fit_the_study_is_refused(
    name: str, plan: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    where = str(tmp_path / "journal.log")
    study = study_of(tmp_path, **plan)
    with pytest.raises(UsageError, match=re.escape(complaint)):
        work(where, name, tmp_path, 3, 60, "median", ())
    assert study.trials == []


def test_a_worker_makes_no_journal_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"journal\.log: there is no such file on this machine"):
        work(str(tmp_path / "journal.log"), "s", tmp_path, 3, 60, "median", ())
    assert list(tmp_path.iterdir()) == []


def test_a_study_that_tune_did_not_make_is_refused(tmp_path: Path) -> None:
    where = str(tmp_path / "journal.log")
    optuna.create_study(study_name="s", storage=open_storage(where))
    with pytest.raises(UsageError, match="The study 's' was not made by tune"):
        work(where, "s", tmp_path, 3, 60, "median", ())


def test_a_worker_whose_trial_was_taken_from_it_goes_on_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_of(tmp_path, **facts_of_a_plan(tmp_path))
    seen: list[int] = []

    def objective(_: Plan, trial: optuna.Trial) -> float:
        seen.append(trial.number)
        if trial.number == 0:  # silent for too long: another has failed it and planned it again
            study.tell(0, state=TrialState.FAIL)
            requeue(study, study.trials[0])
            trial.report(1.0, 1)
        return 1.0

    monkeypatch.setattr(Plan, "objective", objective)
    work(str(tmp_path / "journal.log"), "s", tmp_path, 2, 60, "median", ())
    assert seen == [0, 1, 2]
    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE", "COMPLETE"]
    assert sorted(effective_trials(study)) == [0, 2]


@pytest.mark.parametrize("times", [1, 5])
def test_an_interruption_gives_the_trial_back_however_often(
    times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_of(tmp_path, **facts_of_a_plan(tmp_path))
    drawn: list[float] = []

    def objective(_: Plan, trial: optuna.Trial) -> float:
        drawn.append(trial.suggest_float("learning_rate", 1e-5, 5e-3, log=True))
        if len(drawn) <= times:
            raise KeyboardInterrupt
        return 1.0

    monkeypatch.setattr(Plan, "objective", objective)
    for _ in range(times):
        with pytest.raises(KeyboardInterrupt):
            work(str(tmp_path / "journal.log"), "s", tmp_path, 1, 60, "median", ())
    work(str(tmp_path / "journal.log"), "s", tmp_path, 1, 60, "median", ())
    assert len(drawn) == times + 1
    assert len(set(drawn)) == 1
    assert {number: trial.state.name for number, trial in effective_trials(study).items()} == {0: "COMPLETE"}


@pytest.mark.parametrize("moment", ["is made", "is claimed", "is trained", "is ended", "is enqueued again"])
def test_a_trial_is_enqueued_again_whenever_the_signal_comes(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_of(tmp_path, **facts_of_a_plan(tmp_path))
    journal = type(study._storage)

    def signalled_after(cls: type, method: str, when: str) -> None:
        original = getattr(cls, method)

        def call(*args: Any, **kwargs: Any) -> Any:
            found = original(*args, **kwargs)
            if when == moment:
                signal.raise_signal(signal.SIGTERM)
            return found

        monkeypatch.setattr(cls, method, call)

    def objective(_: Plan, trial: optuna.Trial) -> float:
        trial.suggest_float("learning_rate", 1e-5, 5e-3, log=True)
        signal.raise_signal(signal.SIGTERM)
        return 1.0

    monkeypatch.setattr(Plan, "objective", objective)
    signalled_after(journal, "create_new_trial", "is made")
    signalled_after(journal, "set_trial_user_attr", "is claimed")
    signalled_after(journal, "set_trial_state_values", "is ended")
    signalled_after(optuna.Study, "add_trial", "is enqueued again")
    with handled(signal.SIGTERM), pytest.raises(KeyboardInterrupt):
        work(str(tmp_path / "journal.log"), "s", tmp_path, 2, 60, "median", ())
    assert {number: trial.state.name for number, trial in effective_trials(study).items()} == {0: "WAITING"}
    assert [trial.state.name for trial in study.trials] == ["FAIL", "WAITING"]


def test_a_trial_that_turns_the_interruption_into_an_error_is_enqueued_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_of(tmp_path, **facts_of_a_plan(tmp_path))

    def objective(*_: Any) -> float:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise RuntimeError("Error: did not possess lock") from None
        return 1.0

    monkeypatch.setattr(Plan, "objective", objective)
    with handled(signal.SIGTERM), pytest.raises(KeyboardInterrupt):
        work(str(tmp_path / "journal.log"), "s", tmp_path, 2, 60, "median", ())
    assert [trial.state.name for trial in study.trials] == ["FAIL", "WAITING"]
    assert {number: trial.state.name for number, trial in effective_trials(study).items()} == {0: "WAITING"}


def test_a_worker_stops_when_trial_after_trial_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_of(tmp_path, **facts_of_a_plan(tmp_path))

    def objective(_: Plan, trial: optuna.Trial) -> float:
        trial.set_user_attr("error", "ValueError: no such wall")
        raise ValueError("no such wall")

    monkeypatch.setattr(Plan, "objective", objective)
    for calls in (1, 2):  # the next call tries again, and stops again
        with pytest.raises(UsageError, match="5 trials in a row failed, the last with ValueError: no such wall"):
            work(str(tmp_path / "journal.log"), "s", tmp_path, 50, 60, "median", ())
        assert len(study.trials) == 5 * calls
