"""The command ``tune``: its mistakes, its arguments, and what it tells."""

import inspect
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from optuna.trial import TrialState

from helpers.tuning import (
    PARAMS,
    PLAN,
    study_in,
    study_of,
)
from sb3_stable_ppo.cli.app import main
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.parallel.local import Job
from sb3_stable_ppo.parallel.options import WorkerOptions
from sb3_stable_ppo.studies.space import sample
from sb3_stable_ppo.studies.storage import open_storage
from sb3_stable_ppo.studies.study import open_study, plan_of
from sb3_stable_ppo.tuning import Plan, coordinator, tune
from sb3_stable_ppo.tuning.results import show, training_command, write_best


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["--env", "CartPole-v11"], "Unknown env 'CartPole-v11'"),
        (
            ["--env", "CartPole-v1", "--algo", "ppo"],
            "Unknown algo 'ppo': choose one of stable_ppo, stable_ppo_mask, stable_ppo_lstm",
        ),
        (["--env", "CartPole-v1", "--study", "../s"], "study (--study) ../s: give a name, not a path"),
        (["--env", "CartPole-v1", "--workers", "0"], "journal.log: there is no such file, and no study to show"),
        (["--env", "FrozenLake-v1"], "has no entry for FrozenLake-v1, nor has rl_zoo3's ppo.yml."),
        (["--env", "CartPole-v1", "--conf-file", "nowhere.yml"], "conf_file (--conf-file) nowhere.yml: "),
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


def test_an_error_that_is_not_the_storages_is_not_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(coordinator, "write_best", full)
    monkeypatch.setattr(WorkerOptions, "run_jobs", full)
    with pytest.raises(OSError, match="No space left on device"):
        tune("CartPole-v1", 64, trials=1, log_folder=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"env": "CartPole-v11"}, "Unknown env 'CartPole-v11'"),
        ({"trials": 0}, "trials must be a whole number of at least 1, not 0"),
        ({"seeds": "x"}, "seeds (--seeds) 'x': give a number of seeds such as 5"),
        ({"seeds": [1, 1]}, "seeds (--seeds) [1, 1]: a seed stands there twice"),
        ({"seeds": "0-1", "seed": 2}, "seed (--seed) 2 is the first of a number of seeds"),
        ({"sampler": "grid"}, "Unknown sampler 'grid': choose one of tpe, random"),
        ({"n_startup_trials": -1}, "n_startup_trials must be a whole number of at least 0, not -1"),
        ({"plots": "no"}, "plots must be True or False, not 'no'"),
        ({"hyperparams": {"gamma": 0.9}}, "hyperparams (--hyperparams) has gamma, which tune searches: leave it out"),
        (
            {"hyperparams": {"policy_kwargs": {"norm": "batch", "net_arch": [8]}}},
            "has norm in policy_kwargs, which tune",
        ),
        (
            {"hyperparams": {"policy_kwargs": {"activation_fn": "relu"}}},
            "has activation_fn in policy_kwargs, which tune",
        ),
        ({"hyperparams": {"guards": {"max_kl": 1, "undo": True}}}, "(--hyperparams) has max_kl in guards, which tune"),
        ({"hyperparams": {"n_stepz": 9}}, "unknown key 'n_stepz' (did you mean n_steps?)"),
        ({"gym_packages": ["no_such"]}, "gym_packages (--gym-packages) no_such: No module named 'no_such'"),
        ({"workers": 0}, "journal.log: there is no such file, and no study to show"),
        ({"checkpoint_minutes": -1}, "checkpoint_minutes must be a number of at least 0, not -1"),
        ({"checkpoint_steps": 0}, "checkpoint_steps must be a whole number of at least 1, not 0"),
        ({"pruner": "axe"}, "Unknown pruner 'axe': choose one of median, halving, none"),
        ({"health": "no"}, "health must be True or False, not 'no'"),
        ({"study": ".."}, "study (--study) ..: give a name, not a path"),
        ({"study": "../s"}, "study (--study) ../s: give a name, not a path"),
        ({"worker_gpus": 0.5}, "worker_gpus (--worker-gpus) is for workers on Ray"),
        ({"ray": "auto"}, "ray (--ray) needs storage (--storage) with the URL of a database"),
        ({"worker_gpus": "0.5"}, "worker_gpus (--worker-gpus) must be a share of a GPU from 0 to 1"),
        ({"seeds": None}, "seeds (--seeds) None: give"),
        (
            {"hyperparams": {"n_steps": 0}},
            "--hyperparams (-params): n_steps must be a whole number of",
        ),
        ({"hyperparams": {"batch_size": "abc"}}, "batch_size must be a whole number of at least 1, not 'abc'"),
        ({"hyperparams": {"policy_kwargs": {"optimizer_class": Path}}}, "a study keeps numbers, words, lists"),
        (
            {"hyperparams": {"callback": [{"sb3_stable_ppo.interventions.L2Init": {"strength": 0.5}}]}},
            "(--hyperparams) has L2Init in callback, which tune searches",
        ),
        ({"workers": 0, "storage": "sqlite:///no_such.db"}, "no_such.db: there is no such file, and no study to show"),
        ({"workers": -1}, "workers (--workers) must be a whole number of at least 0, not -1"),
    ],
)
def test_a_wrong_argument_in_python_is_one_sentence_and_leaves_nothing(
    arguments: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    call = {"env": "CartPole-v1", "n_timesteps": 64, "log_folder": tmp_path / "logs", **arguments}
    with pytest.raises(UsageError, match=re.escape(complaint)):
        tune(**call)
    assert not (tmp_path / "logs").exists()


def test_python_and_the_command_line_have_the_same_names_and_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(coordinator, "tune", lambda **arguments: asked.update(arguments))
    assert main(["tune", "--env", "CartPole-v1", "-n", "64"]) == 0
    parameters = inspect.signature(tune).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    asked |= {"log_folder": str(asked["log_folder"]), "gym_packages": tuple(asked["gym_packages"])}
    assert asked == {**defaults, "env": "CartPole-v1", "n_timesteps": 64}


def studied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **arguments: Any
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The plan that a call of ``tune`` makes, and what its workers would be called with."""
    asked: list[tuple[str, ...]] = []

    def run_jobs(_: WorkerOptions, jobs: list[Job], *__: object) -> None:
        asked.append(jobs[0].argv)
        raise KeyboardInterrupt

    monkeypatch.setattr(WorkerOptions, "run_jobs", run_jobs)
    with pytest.raises(KeyboardInterrupt):
        tune("CartPole-v1", 64, log_folder=tmp_path, **arguments)
    storage = open_storage(str(tmp_path / "tune_CartPole-v1" / "journal.log"))
    return plan_of(storage, "tune_CartPole-v1"), asked[0]


@pytest.mark.parametrize(
    ("arguments", "seeds"),
    [
        ({}, [0]),
        ({"seeds": 3}, [0, 1, 2]),
        ({"seeds": "2", "seed": 7}, [7, 8]),
        ({"seeds": "1,3,5"}, [1, 3, 5]),
        ({"seeds": "0-2"}, [0, 1, 2]),
        ({"seeds": [4, 2]}, [4, 2]),
    ],
)
def test_seeds_are_a_number_or_a_list_as_in_train(
    arguments: dict[str, Any], seeds: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, _ = studied(tmp_path, monkeypatch, **arguments)
    assert plan["seeds"] == seeds


def test_a_number_and_the_same_seeds_by_name_are_one_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seeds in (3, "0-2", [0, 1, 2]):
        studied(tmp_path, monkeypatch, seeds=seeds)
    with pytest.raises(UsageError, match="is of another seeds"):
        tune("CartPole-v1", 64, log_folder=tmp_path, seeds="0-3")


def test_a_study_is_shown_whatever_the_call_says_of_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    studied(tmp_path, monkeypatch, hyperparams={"n_steps": 16, "batch_size": 32}, seeds=3)
    study = study_in(str(tmp_path / "tune_CartPole-v1" / "journal.log"))
    assert study is not None
    study.enqueue_trial({**PARAMS, "n_epochs": 7})
    trial = study.ask()
    sample(trial, guarded=True)
    study.tell(trial, 123.0)
    tune("CartPole-v1", 9999, log_folder=tmp_path, workers=0, plots=False)
    assert "123" in capsys.readouterr().out
    best = yaml.safe_load((tmp_path / "tune_CartPole-v1" / "best.yml").read_text())["CartPole-v1"]
    assert (best["n_timesteps"], best["n_epochs"]) == (64, 7), "of the study, not of the call"


def test_workers_are_told_the_sampler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, call = studied(tmp_path, monkeypatch, sampler="random", n_startup_trials=3, gym_packages=["helpers.callbacks"])
    assert call[-4:] == ("median", "random", "3", "helpers.callbacks")


def test_workers_are_told_how_often_checkpoints_are_written_and_a_study_may_change_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, call = studied(tmp_path, monkeypatch, checkpoint_minutes=3, checkpoint_steps=5000)
    assert "[3.0, 5000]" in call
    later, call = studied(tmp_path, monkeypatch)
    assert "[null, null]" in call
    assert later == plan


def test_checkpoints_of_trials_that_were_given_up_are_removed_when_the_study_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studied(tmp_path, monkeypatch)
    study = study_in(str(tmp_path / "tune_CartPole-v1" / "journal.log"))
    assert study is not None
    study.tell(study.ask(), state=TrialState.FAIL)
    study.tell(study.ask(), 1.0)
    left = [
        tmp_path / "tune_CartPole-v1" / "trials" / f"trial_{number}" / "stable_ppo" / "CartPole-v1_1" / "checkpoints"
        for number in range(3)
    ]
    for folder in left:
        folder.mkdir(parents=True)
    coordinator.remove_all_checkpoints(tmp_path / "tune_CartPole-v1" / "trials", study)
    assert [folder.exists() for folder in left] == [False, False, True]


def test_hyperparams_stand_in_every_trials_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = {"n_steps": "1e2", "env_kwargs": {"sutton_barto_reward": True}, "guards": {"probe_rows": 16}}
    plan, _ = studied(tmp_path, monkeypatch, hyperparams=fixed)
    assert {name: plan["base"][name] for name in fixed} == {**fixed, "n_steps": 100}
    assert plan["held"] == ["n_steps"]
    assert plan["base"]["policy"] == "StableMlpPolicy"


def test_the_table_shows_hyperparameters_as_a_configuration_has_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = study_of(tmp_path)
    study.enqueue_trial({**PARAMS, "one_minus_gamma": 0.0012})
    trial = study.ask()
    sample(trial, guarded=True)
    study.tell(trial, 1.0)
    show(study)
    shown = " ".join(re.sub("[│┃]", " ", capsys.readouterr().out).split())
    assert "gamma 0.9988, gae_lambda 0.9," in shown
    assert "one_minus" not in shown


def test_a_pruned_trial_is_none_of_the_best(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = study_of(tmp_path)
    for value, state in ((100.0, TrialState.COMPLETE), (450.0, TrialState.PRUNED)):
        trial = study.ask()
        trial.report(value, 1)
        study.tell(trial, value if state is TrialState.COMPLETE else None, state)
    show(study)
    shown = capsys.readouterr().out
    assert "1 complete, 1 pruned" in shown
    assert "450" not in shown


def test_only_the_trials_of_the_front_have_a_file(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "journal.log"))
    study = open_study(storage, "s", PLAN, "none", 0, 2)
    plan = Plan("stable_ppo", "CartPole-v1", {"policy": "StableMlpPolicy"}, 64, (0,), 1, 1, True, tmp_path)
    names = []
    own = tmp_path / "pareto_0_mine.yml"
    own.write_text("# Trial 0 of the study s, as I like it")
    (tmp_path / "pareto_9.yml").write_text("# Trial 9 of the study of others, 1, 1")
    for values in ((1.0, 1.0), (2.0, 1.0), (1.5, 2.0)):
        study.enqueue_trial(PARAMS)
        trial = study.ask()
        sample(trial, guarded=True)
        study.tell(trial, values)
        write_best(study, plan, tmp_path)
        names.append(sorted(path.name for path in tmp_path.glob("pareto_?.yml")))
    others = ["pareto_9.yml"]
    assert names == [["pareto_0.yml", *others], ["pareto_1.yml", *others], ["pareto_1.yml", "pareto_2.yml", *others]]
    assert own.exists()


def test_the_command_that_trains_the_best_has_all_that_it_needs(tmp_path: Path) -> None:
    plan = Plan("stable_ppo_lstm", "My/Env v0", {}, 64, (0,), 1, 1, False, tmp_path)
    program, *words = shlex.split(training_command(plan, Path("logs/a b/best.yml"), ["my_envs", "yours"]))
    assert Path(program).name == "sb3-stable-ppo"
    expected = (
        "train --algo stable_ppo_lstm --env 'My/Env v0' --gym-packages my_envs yours --conf-file 'logs/a b/best.yml'"
    )
    assert words == shlex.split(expected)
