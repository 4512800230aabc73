"""Studies that many workers work on: which trials are to be done, and which count."""

import os
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from helpers.servers import needs_postgres
from helpers.tuning import (
    PLAN,
    name_of_a_dead_process,
    study_of,
    totals,
)
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.studies.storage import FIRST, RETRIES, RUNS, TRIES, open_storage
from sb3_stable_ppo.studies.study import (
    SURPLUS,
    WORKER,
    SurplusTrial,
    best_trials,
    check_failures,
    claim,
    effective_trials,
    goal_of,
    n_remaining,
    open_study,
    requeue_dead_trials,
)
from sb3_stable_ppo.studies.worker_names import is_gone, own_name


def test_a_goal_counts_what_is_done_and_makes_up_for_what_failed(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    assert (goal_of(study, 3), n_remaining(study, 3)) == (3, 3)
    study.tell(study.ask(), 1.0)
    running = study.ask()
    assert n_remaining(study, 3) == 1
    assert n_remaining(study, 1) == 0
    study.tell(running, state=TrialState.FAIL)
    assert n_remaining(study, 3) == 1  # by this call a trial that failed is not done again
    assert goal_of(study, 3) == 4  # by the next one it is
    assert n_remaining(study_of(tmp_path), 4) == 2


def test_a_process_is_gone_when_it_is_of_this_machine_and_no_more() -> None:
    host, pid, began = own_name().rsplit(":", 2)
    assert pid == str(os.getpid())
    assert not is_gone(own_name())
    assert is_gone(name_of_a_dead_process())
    assert is_gone(f"{host}:{pid}:{int(began) - 1000}")  # another process had the number before
    assert not is_gone(f"not-{host}:{pid}:{int(began) - 1000}")  # nobody here can tell


def test_the_trials_of_a_dead_worker_are_planned_again_and_no_others(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    trials = [study.ask() for _ in range(4)]
    claim(trials[0], 4)
    learning_rate = trials[1].suggest_float("learning_rate", 1e-5, 5e-3, log=True)
    trials[1].set_user_attr(WORKER, name_of_a_dead_process())
    study.tell(trials[2], 1.0)
    trials[3].set_user_attr(WORKER, "another-machine:1:1")
    assert requeue_dead_trials(study) == 1
    assert requeue_dead_trials(study) == 0
    states = {number: trial.state for number, trial in effective_trials(study).items()}
    running, waiting = TrialState.RUNNING, TrialState.WAITING
    assert states == {0: running, 1: waiting, 2: TrialState.COMPLETE, 3: running}
    assert effective_trials(study)[1].user_attrs == {FIRST: 1, RETRIES: 1, TRIES: [1]}
    assert n_remaining(study, 4) == 1
    again = study.ask()
    assert again.number == 4
    claim(again, 4)
    assert again.suggest_float("learning_rate", 1e-5, 5e-3, log=True) == learning_rate


def test_a_trial_whose_worker_died_before_it_wrote_its_name_is_planned_again_in_time(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    study.ask()
    assert requeue_dead_trials(study) == 0
    time.sleep(3.1)
    assert requeue_dead_trials(study, heartbeat=1) == 1
    assert effective_trials(study)[0].state is TrialState.WAITING


def test_a_dead_trial_that_another_launcher_finds_at_the_same_time_is_planned_again_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, other = study_of(tmp_path), study_of(tmp_path)
    study.ask().set_user_attr(WORKER, name_of_a_dead_process())
    write, found_by_the_other = study._storage.set_trial_state_values, []

    def late(*args: Any, **kwargs: Any) -> bool:
        found_by_the_other.append(requeue_dead_trials(other))
        return write(*args, **kwargs)

    monkeypatch.setattr(study._storage, "set_trial_state_values", late)
    requeue_dead_trials(study)
    assert found_by_the_other == [1]
    assert [trial.state.name for trial in study.trials] == ["FAIL", "WAITING"]


def test_a_trial_is_planned_again_three_times_at_most(tmp_path: Path) -> None:
    study, dead = study_of(tmp_path), name_of_a_dead_process()
    for tries in range(4):
        study.ask().set_user_attr(WORKER, dead)
        assert effective_trials(study)[0].user_attrs.get(RETRIES, 0) == tries
        assert requeue_dead_trials(study) == 1
    assert n_remaining(study, 1) == 0
    assert list(effective_trials(study)) == [0]
    assert effective_trials(study)[0].state is TrialState.FAIL


def test_a_trial_that_is_planned_again_knows_its_earlier_tries_and_their_finished_runs(tmp_path: Path) -> None:
    study, dead = study_of(tmp_path), name_of_a_dead_process()
    study.ask().set_user_attr(WORKER, dead)
    requeue_dead_trials(study)
    second = study.ask()
    second.set_user_attr(RUNS, [{"return": 0.1}])
    second.set_user_attr(WORKER, dead)
    requeue_dead_trials(study)
    study.ask().set_user_attr(WORKER, dead)  # dies before it has done anything
    requeue_dead_trials(study)
    assert effective_trials(study)[0].user_attrs == {FIRST: 0, RETRIES: 3, TRIES: [0, 1, 2], RUNS: [{"return": 0.1}]}


def test_the_last_trial_is_done_once_though_two_workers_begin_it(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    study.tell(study.ask(), 1.0)
    first, second = study.ask(), study.ask()
    with pytest.raises(SurplusTrial):
        claim(second, 2)
    claim(first, 2)
    assert study.trials[2].user_attrs == {SURPLUS: True}
    assert list(effective_trials(study)) == [0, 1]
    third = study.ask()
    claim(third, 3)  # of a call that wants more
    assert list(effective_trials(study)) == [0, 1, 3]


def test_a_lost_trial_that_two_machines_plan_again_is_done_once(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    study.tell(study.ask(), state=TrialState.FAIL)
    for _ in range(2):
        study.enqueue_trial({}, user_attrs={FIRST: 0, RETRIES: 1})
    done: list[int] = []

    def objective(trial: optuna.Trial) -> float:
        claim(trial, 1)
        done.append(trial.number)
        return 1.0

    study.optimize(objective, n_trials=2, catch=(SurplusTrial,))
    assert done == [1]
    assert n_remaining(study, 1) == 0
    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE", "FAIL"]


def test_a_study_of_another_plan_is_left_alone(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    study_of(tmp_path)
    with pytest.raises(UsageError, match=r"The study 's' is of another seeds: \[0, 1\], here \[0\]\. Choose another"):
        study_of(tmp_path, seeds=(0,))
    with pytest.raises(UsageError, match="is of another search_space: null, here 2"):
        study_of(tmp_path, search_space=2)
    assert study.trials == []


def test_of_a_mapping_that_is_another_only_what_differs_is_shown(tmp_path: Path) -> None:
    study_of(tmp_path, base={"policy": "P" * 200, "n_envs": 8, "gamma": 0.9})
    with pytest.raises(UsageError, match=r'is of another base: {"gamma": 0.9}, here {"env_kwargs": {"g": 1}}\. Choose'):
        study_of(tmp_path, base={"policy": "P" * 200, "n_envs": 8, "env_kwargs": {"g": 1}})


def test_the_best_trials_need_one_that_is_complete(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    with pytest.raises(UsageError, match="The study 's' has no completed trial"):
        best_trials(study)
    for value in (1.0, 3.0, 2.0):
        study.tell(study.ask(), value)
    assert [trial.value for trial in best_trials(study)] == [3.0]


@pytest.mark.slow
@needs_postgres
@pytest.mark.xdist_group("postgres")
def test_a_trial_that_gives_no_sign_of_life_is_tried_again_with_its_parameters(where: str) -> None:
    study = open_study(open_storage(where, heartbeat=1), "s", PLAN, "none", 0, 1)
    lost, alive = study.ask(), study.ask()
    for trial in (lost, alive):
        trial.set_user_attr(WORKER, "another-machine:1:1")
        trial.suggest_float("learning_rate", 1e-5, 5e-3, log=True)
        study._storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]
    deadline = time.monotonic() + 4.5
    while time.monotonic() < deadline:
        study._storage.record_heartbeat(alive._trial_id)  # type: ignore[attr-defined]
        time.sleep(0.3)
    requeue_dead_trials(study, heartbeat=1)
    requeue_dead_trials(study, heartbeat=1)
    assert [trial.state.name for trial in study.trials] == ["FAIL", "RUNNING", "WAITING"]
    assert study.trials[2].user_attrs == {FIRST: 0, RETRIES: 1, TRIES: [0]}
    again = study.ask()
    claim(again, 2)
    assert again.suggest_float("learning_rate", 1e-5, 5e-3, log=True) == lost.params["learning_rate"]
    study.tell(again, 1.0)
    with pytest.raises(ValueError, match="Cannot tell"):  # the lost one's machine was only cut off, and is back
        study.tell(lost, 2.0)
    assert totals(study) == [1, 0]


def test_trials_in_a_row_that_fail_with_an_error_end_the_study(tmp_path: Path) -> None:
    study = study_of(tmp_path)

    def fail(error: str | None = "ValueError: no such wall.") -> None:
        trial = study.ask()
        if error is not None:
            trial.set_user_attr("error", error)
        study.tell(trial, state=TrialState.FAIL)

    for _ in range(4):
        fail()
    fail(None)  # its worker died
    check_failures(study, 0)
    study.tell(study.ask(), 1.0)
    for _ in range(4):
        fail()
    check_failures(study, 0)
    fail()
    with pytest.raises(UsageError, match=r"5 trials in a row failed, the last with ValueError: no such wall\. Mend"):
        check_failures(study, 0)
    check_failures(study, 7)  # of a later call


def test_several_workers_are_kept_from_each_others_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Optuna 4 does so only if it is asked to."""
    asked: dict[str, Any] = {}
    original = optuna.samplers.TPESampler

    def sampler(**options: Any) -> optuna.samplers.TPESampler:
        asked.update(options)
        return original(**options)

    monkeypatch.setattr(optuna.samplers, "TPESampler", sampler)
    study_of(tmp_path)
    assert asked["constant_liar"] is True
