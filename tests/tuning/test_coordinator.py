"""Tuning: the space, studies that many work on, and the command, with real trainings and a worker that is killed."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FixedTrial, TrialState

from helpers.processes import TESTS
from helpers.tuning import PARAMS, PLAN, flags, with_ctrl_c
from sb3_stable_ppo import CollapseError
from sb3_stable_ppo.cli.app import main
from sb3_stable_ppo.common import signals
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.health.alarms import RULES, Event
from sb3_stable_ppo.studies.space import SCHEDULES, as_hyperparams, sample
from sb3_stable_ppo.studies.storage import FIRST, RETRIES, open_storage, requeue
from sb3_stable_ppo.studies.study import (
    SURPLUS,
    WORKER,
    SurplusTrial,
    best_trials,
    claim,
    effective_trials,
    goal_of,
    is_gone,
    n_remaining,
    open_study,
    own_name,
    requeue_dead_trials,
)
from sb3_stable_ppo.tuning.trial import COLLAPSES, Plan, raise_on_collapse
from sb3_stable_ppo.tuning.worker import VERSIONS, work
from sb3_stable_ppo.zoo.registry import register

optuna.logging.set_verbosity(optuna.logging.ERROR)
PACKAGES = ("--gym-packages", "helpers.callbacks")


def study_of(tmp_path: Path, **plan: Any) -> optuna.Study:
    return open_study(open_storage(str(tmp_path / "journal.log")), "s", {**PLAN, **plan}, "median", 0, 1)


# -- the space ---------------------------------------------------------------------------------------------------------


def test_a_trial_is_merged_into_the_configuration() -> None:
    base = {
        "policy": "StableMlpPolicy",
        "policy_kwargs": {"net_arch": [32], "norm": "batch", "negative_slope": 0.3},
        "guards": {"probe_rows": 32},
        "n_envs": 2,
        "n_steps": 50,
        "n_timesteps": 1e6,
    }
    before = json.dumps(base)
    entry = as_hyperparams(PARAMS, base, n_timesteps=10_000)
    assert entry == {
        **base,
        "n_timesteps": 10_000,
        "learning_rate": {"schedule": "step", "initial": 2e-3, "step_size": 5, "gamma": 0.9},
        "n_epochs": 3,
        "clip_range": 0.2,
        "ent_coef": 0.01,
        "gamma": 0.98,
        "gae_lambda": 0.9,
        "policy_kwargs": {
            "net_arch": [32],
            "norm": "layer",
            "norm_position": "before",
            "activation": "leaky_relu",
            "negative_slope": 0.05,
            "init_gain": 0.9,
        },
        "guards": {"probe_rows": 32, "max_kl": 0.5},
    }
    assert json.dumps(base) == before


def test_what_makes_no_sense_alone_is_drawn_only_with_its_other() -> None:
    assert sample(FixedTrial(PARAMS), guarded=True) == PARAMS
    bare = sample(FixedTrial({**PARAMS, "norm": "none", "activation": "tanh"}), guarded=False)
    assert PARAMS.keys() - bare.keys() == {"norm_position", "negative_slope", "max_kl"}
    entry = as_hyperparams(bare, {"policy_kwargs": {"norm": "batch", "norm_position": "after"}}, 100)
    assert entry["policy_kwargs"] == {"norm": "none", "activation": "tanh", "init_gain": 0.9}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_is_one_that_the_yaml_knows(schedule: str) -> None:
    from sb3_stable_ppo.schedules.learning_rate import make_schedule

    learning_rate = as_hyperparams({**PARAMS, "schedule": schedule}, {}, 1)["learning_rate"]
    assert learning_rate == 2e-3 if schedule == "constant" else make_schedule(**learning_rate).initial == 2e-3


# -- studies -----------------------------------------------------------------------------------------------------------


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


def name_of_a_dead_process() -> str:
    """As a worker of this machine had it that is no more."""
    host, _, _ = own_name().rsplit(":", 2)
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return f"{host}:{process.pid}:{time.time():.0f}"


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
    assert effective_trials(study)[1].user_attrs == {FIRST: 1, RETRIES: 1}
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


def test_a_trial_is_planned_again_three_times_at_most(tmp_path: Path) -> None:
    study, dead = study_of(tmp_path), name_of_a_dead_process()
    for tries in range(4):
        study.ask().set_user_attr(WORKER, dead)
        assert effective_trials(study)[0].user_attrs.get(RETRIES, 0) == tries
        assert requeue_dead_trials(study) == 1
    assert n_remaining(study, 1) == 0
    assert list(effective_trials(study)) == [0]
    assert effective_trials(study)[0].state is TrialState.FAIL


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


@pytest.mark.parametrize(
    ("name", "plan", "complaint"),
    [
        ("s", {**VERSIONS, "package": "0.0.1"}, "The study 's' is of another package: '0.0.1', here '"),
        ("s", {**VERSIONS, "search_space": 0}, "The study 's' is of another search_space: 0, here 1"),
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
    plan = {**Plan("stable_ppo", "CartPole-v1", {}, 1, (0,), 1, 1, False, tmp_path)._asdict(), **VERSIONS}
    study = study_of(tmp_path, **{**plan, "folder": None})
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
    plan = {**Plan("stable_ppo", "CartPole-v1", {}, 1, (0,), 1, 1, False, tmp_path)._asdict(), **VERSIONS}
    study = study_of(tmp_path, **{**plan, "folder": None})
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


def test_the_best_trials_need_one_that_is_complete(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    with pytest.raises(UsageError, match="The study 's' has no completed trial"):
        best_trials(study)
    for value in (1.0, 3.0, 2.0):
        study.tell(study.ask(), value)
    assert [trial.value for trial in best_trials(study)] == [3.0]


def test_a_storage_that_cannot_be_reached_is_one_sentence_without_the_password() -> None:
    wheres = ("postgresql+psycopg://me:se%40cret@127.0.0.1:1/db", "nosuch://me:se%40cret@host/db")
    for where in (*wheres, "postgresql+psycopg://me@127.0.0.1:1/db?password=se%40cret"):
        with pytest.raises(UsageError) as caught:
            open_storage(where)
        text = str(caught.value)
        assert text.startswith("--storage ")
        assert "***" in text
        assert "cret" not in text
        assert "\n" not in text


def test_collapses_end_a_trial_and_other_alarms_do_not() -> None:
    assert set(COLLAPSES) < {rule.name for rule in RULES}
    for rule in RULES:
        event = Event(rule.name, True, 1, "conv1", 1.0, f"{rule.name} it is")
        if rule.name in COLLAPSES:
            with pytest.raises(CollapseError, match=rule.name):
                raise_on_collapse(event, None)  # type: ignore[arg-type]
        else:
            raise_on_collapse(event, None)  # type: ignore[arg-type]


# -- the command -------------------------------------------------------------------------------------------------------


def states_of(folder: Path) -> list[str]:
    """Of each planned trial the state it came to."""
    study = optuna.load_study(
        study_name="tune_CartPole-v1", storage=open_storage(str(folder / "tune_CartPole-v1" / "journal.log"))
    )
    return [effective_trials(study)[number].state.name for number in sorted(effective_trials(study))]


@pytest.mark.slow
def test_two_workers_do_every_trial_once_and_the_best_trains_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = [*flags(tmp_path), "--workers", "2", "--seeds", "2", "--pruner", "none"]
    assert main([*args, "--trials", "3"]) == 0
    assert states_of(tmp_path) == ["COMPLETE"] * 3
    folder = tmp_path / "tune_CartPole-v1"
    shown = capsys.readouterr().out
    assert "3 trials: 3 complete" in shown
    assert str(folder / "best.yml") in shown.replace("\n", "")
    assert main([*args, "--trials", "4"]) == 0  # goes on
    assert states_of(tmp_path) == ["COMPLETE"] * 4
    assert len(list((folder / "trials").glob("trial_*/stable_ppo/CartPole-v1_[12]/CartPole-v1.zip"))) == 8
    best = yaml.safe_load((folder / "best.yml").read_text())["CartPole-v1"]
    assert best["policy_kwargs"]["net_arch"] == [16]
    assert best["n_timesteps"] == 512
    assert main(["train", "--env", "CartPole-v1", "--conf-file", str(folder / "best.yml"), "-f", str(tmp_path)]) == 0
    assert main([*args, "--trials", "4", "-n", "256"]) == 2
    assert "is of another n_timesteps: 512, here 256" in capsys.readouterr().err


@pytest.mark.slow
def test_optunas_pruner_ends_a_trial_after_an_evaluation(tmp_path: Path) -> None:
    base = {"policy": "StableMlpPolicy", "n_envs": 2, "n_steps": 32, "batch_size": 64, "n_timesteps": 512}
    register()
    plan = Plan("stable_ppo", "CartPole-v1", base, 512, (0, 1), 4, 1, False, tmp_path)
    study = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(lower=1e9, n_warmup_steps=2))
    study.optimize(plan.objective, n_trials=1)
    assert study.trials[0].state is TrialState.PRUNED
    assert list(study.trials[0].intermediate_values) == [1, 2]
    assert "collapsed" not in study.trials[0].user_attrs
    assert len(list(tmp_path.glob("trial_0/stable_ppo/*"))) == 1  # the second seed was not begun


@pytest.mark.slow
def test_sigterm_in_a_runs_last_update_ends_the_trial_before_its_next_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "_ASKED_TO_STOP", threading.Event())
    base = {"policy": "StableMlpPolicy", "n_envs": 2, "n_steps": 32, "batch_size": 64, "n_timesteps": 128}
    register()
    plan = Plan(
        "stable_ppo",
        "CartPole-v1",
        {**base, "callback": "helpers.callbacks.TerminatedAtTheEnd"},
        128,
        (0, 1),
        2,
        1,
        False,
        tmp_path,
    )
    study = optuna.create_study()
    with signals.handled(signal.SIGTERM), pytest.raises(KeyboardInterrupt):
        study.optimize(plan.objective, n_trials=2)
    assert [trial.state.name for trial in study.trials] == ["FAIL"]
    assert len(list(tmp_path.glob("trial_0/stable_ppo/*"))) == 1


@pytest.mark.slow
def test_health_is_a_second_objective_with_a_front(tmp_path: Path) -> None:
    assert main([*flags(tmp_path), "--trials", "3", "--health"]) == 0
    fronts = sorted((tmp_path / "tune_CartPole-v1").glob("pareto_*.yml"))
    assert fronts
    study = optuna.load_study(
        study_name="tune_CartPole-v1", storage=open_storage(str(tmp_path / "tune_CartPole-v1" / "journal.log"))
    )
    assert {f"pareto_{trial.number}.yml" for trial in study.best_trials} == {path.name for path in fronts}
    for trial in study.trials:
        assert 0 <= trial.values[1] <= 1
        assert trial.values[1] == trial.user_attrs["health"][0]


@pytest.mark.slow
def test_a_collapse_prunes_the_trial_and_no_completed_trial_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    assert main([*flags(tmp_path, "helpers.callbacks.Collapse"), "--trials", "2", *PACKAGES]) == 2
    shown = capsys.readouterr()
    assert "2 trials: 2 pruned; of the pruned ones 2 collapsed." in shown.out
    assert "has no completed trial (yet)" in shown.err
    assert states_of(tmp_path) == ["PRUNED"] * 2


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill -9 of a worker", "Ctrl-C"])
def test_no_trial_is_lost_or_counted_twice(how: str, tmp_path: Path) -> None:
    args = [
        *flags(tmp_path, "helpers.callbacks.Slow", steps=256),
        "--workers",
        "2",
        "--trials",
        "4",
        "--pruner",
        "none",
    ]
    command = [sys.executable, "-m", "sb3_stable_ppo", *args]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    journal = tmp_path / "tune_CartPole-v1" / "journal.log"
    launcher = subprocess.Popen(command, env=environment, preexec_fn=with_ctrl_c)
    deadline = time.monotonic() + 120
    pid = None
    while pid is None and time.monotonic() < deadline:
        time.sleep(0.5)
        lines = journal.read_text().splitlines() if journal.is_file() else []
        names = [json.loads(line)["user_attr"]["worker"] for line in lines if '"worker"' in line]
        pid = int(names[0].split(":")[1]) if names else None
    assert pid is not None
    if how == "Ctrl-C":
        launcher.send_signal(signal.SIGINT)
        assert launcher.wait(120) == 130
        assert "RUNNING" not in states_of(tmp_path)
        launcher = subprocess.Popen(command, env=environment, preexec_fn=with_ctrl_c)
    else:
        os.kill(pid, signal.SIGKILL)
    assert launcher.wait(300) == 0
    assert states_of(tmp_path) == ["COMPLETE"] * 4
    study = optuna.load_study(study_name="tune_CartPole-v1", storage=open_storage(str(journal)))
    complete = [trial for trial in study.trials if trial.state is TrialState.COMPLETE]
    assert len(complete) == 4
    assert len([trial for trial in study.trials if trial.state is TrialState.FAIL]) >= 1


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["--env", "CartPole-v11"], "Unknown env 'CartPole-v11'"),
        (["--env", "CartPole-v1", "--algo", "ppo"], "tune searches stable_ppo, stable_ppo_mask, stable_ppo_lstm"),
        (["--env", "CartPole-v1", "--study", "../s"], "--study ../s: a name, not a path"),
        (["--env", "CartPole-v1", "--workers", "0"], "journal.log: there is no such file, and no study to show"),
        (["--env", "Acrobot-v1"], "has no entry for Acrobot-v1; it has PongNoFrameskip-v4, atari, CartPole-v1"),
        (["--env", "CartPole-v1", "--conf-file", "nowhere.yml"], "--conf-file nowhere.yml: "),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(
    args: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", *args, "-n", "100", "-f", str(tmp_path / "logs")]) == 2
    shown = capsys.readouterr().err
    assert complaint in " ".join(shown.split())
    assert shown.count("error:") == 1
    assert not (tmp_path / "logs").exists()


def test_a_policy_without_norms_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = {"policy": "MlpPolicy", "n_timesteps": 100}
    (tmp_path / "config.yml").write_text(yaml.safe_dump({"CartPole-v1": entry}))
    args = ["tune", "--env", "CartPole-v1", "-n", "100", "-f", str(tmp_path), "--conf-file"]
    assert main([*args, str(tmp_path / "config.yml")]) == 2
    assert "tune chooses the norm of our policies; ActorCriticPolicy has none" in capsys.readouterr().err


def test_the_samplers_of_optuna_take_the_whole_space() -> None:
    trial = optuna.create_study().ask()
    sample(trial, guarded=True)
    kinds = {type(distribution) for distribution in trial.distributions.values()}
    assert {FloatDistribution, CategoricalDistribution} <= kinds
