"""One trial: what ends it early, and what fails it."""

import signal
from pathlib import Path
from typing import Any

import gymnasium as gym
import optuna
import pytest
from gymnasium.envs.registration import EnvSpec
from optuna.trial import TrialState
from stable_baselines3.common.vec_env import DummyVecEnv

from helpers.envs import cartpole_with_nan
from sb3_stable_ppo import CollapseError, HealthCallback
from sb3_stable_ppo.common import signals
from sb3_stable_ppo.common.errors import one_line
from sb3_stable_ppo.health.alarms import RULES, Event
from sb3_stable_ppo.tuning.managers import COLLAPSES, TrialManager, raise_on_collapse
from sb3_stable_ppo.tuning.trial import Plan
from sb3_stable_ppo.zoo.registry import register


def test_collapses_end_a_trial_and_other_alarms_do_not() -> None:
    assert set(COLLAPSES) < {rule.name for rule in RULES}
    for rule in RULES:
        event = Event(rule.name, True, 1, "conv1", 1.0, f"{rule.name} it is")
        if rule.name in COLLAPSES:
            with pytest.raises(CollapseError, match=rule.name):
                raise_on_collapse(event, None)  # type: ignore[arg-type]
        else:
            raise_on_collapse(event, None)  # type: ignore[arg-type]


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


SMALL = {"policy": "StableMlpPolicy", "n_envs": 2, "n_steps": 32, "batch_size": 64, "n_timesteps": 128}


def ended(base: dict[str, Any], folder: Path, **plan: Any) -> optuna.trial.FrozenTrial:
    """A trial of one run of 128 steps, or as ``plan`` says."""
    register()
    facts = {"env": "CartPole-v1", "n_timesteps": 128, "seeds": (0,), "n_evaluations": 1, "eval_episodes": 1, **plan}
    study = optuna.create_study(direction="maximize")
    of_all = Plan(algo="stable_ppo", base={**SMALL, **base}, health=False, folder=folder, **facts)
    study.optimize(of_all.objective, n_trials=1, catch=(Exception,))
    return study.trials[0]


@pytest.mark.slow
def test_a_trial_is_scored_in_the_env_that_it_is_trained_in(tmp_path: Path) -> None:
    trial = ended({"env_kwargs": {"sutton_barto_reward": True}}, tmp_path)
    assert trial.value is not None
    assert -1 <= trial.value <= 0


@pytest.mark.slow
def test_the_env_of_evaluations_is_closed_when_a_run_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[DummyVecEnv] = []
    closed: list[DummyVecEnv] = []
    make, close = DummyVecEnv.__init__, DummyVecEnv.close
    monkeypatch.setattr(DummyVecEnv, "__init__", lambda self, *args: (made.append(self), make(self, *args))[1])
    monkeypatch.setattr(DummyVecEnv, "close", lambda self: (closed.append(self), close(self))[1])
    ended({}, tmp_path, seeds=(0, 1))
    ended({"callback": "helpers.callbacks.CollapseCallback"}, tmp_path / "collapsed")
    assert len(made) == 6
    assert {*map(id, made)} == {*map(id, closed)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("base", "error"),
    [
        ({"callback": "helpers.callbacks.StopsAtOnce"}, "ValueError: training ended at step 2, before its first"),
        ({"n_steps": "abc"}, "ValueError: invalid literal for int"),
    ],
)
def test_a_trial_without_a_score_fails_with_its_cause(base: dict[str, Any], error: str, tmp_path: Path) -> None:
    trial = ended(base, tmp_path)
    assert trial.state is TrialState.FAIL
    assert trial.user_attrs["error"].startswith(error)


@pytest.mark.slow
def test_a_score_that_is_no_number_fails_the_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "CartPoleWithNaN-v0"
    monkeypatch.setitem(gym.registry, name, EnvSpec(name, entry_point=cartpole_with_nan, max_episode_steps=500))
    trial = ended({}, tmp_path, env=name)
    assert trial.state is TrialState.FAIL
    assert trial.user_attrs["error"].startswith("ValueError: the mean return of the last evaluation is nan")


@pytest.mark.slow
def test_reports_of_seeds_are_at_the_same_steps_however_long_the_last_rollout(tmp_path: Path) -> None:
    trial = ended({"n_envs": 1, "n_steps": 64}, tmp_path, n_timesteps=70, seeds=(0, 1), n_evaluations=2)
    assert list(trial.intermediate_values) == [1, 2, 3, 4]


def test_one_health_callback_of_a_trial_measures_at_fixed_updates_where_an_intervention_waits_for_an_alarm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets = []

    def learn(manager: TrialManager, _: object) -> None:
        own = [each for each in manager.callbacks if isinstance(each, HealthCallback)]
        budgets.append([each.budget for each in own])
        raise KeyboardInterrupt

    monkeypatch.setattr(TrialManager, "learn", learn)
    register()
    health = "sb3_stable_ppo.HealthCallback"
    waiting = {"sb3_stable_ppo.ReGraMa": {"when": {"on_alarm": "low_rank"}}}
    for callbacks in ([health], [health, waiting], [waiting]):
        base = {"policy": "StableMlpPolicy", "n_envs": 1, "n_steps": 32, "n_timesteps": 64, "callback": callbacks}
        plan = Plan("stable_ppo", "CartPole-v1", base, 64, (0,), 1, 1, False, tmp_path)
        with pytest.raises(KeyboardInterrupt):
            optuna.create_study().optimize(plan.objective, n_trials=1)
    assert budgets == [[0.01], [None], [None]]


@pytest.mark.slow
def test_sigterm_in_a_runs_last_update_ends_the_trial_before_its_next_seed(
    tmp_path: Path,
) -> None:
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


@pytest.mark.parametrize(
    ("error", "state", "attribute"),
    [
        (CollapseError("every layer is dark"), "PRUNED", "collapsed"),
        (
            ValueError("Expected parameter logits to satisfy the constraint IndependentConstraint"),
            "PRUNED",
            "collapsed",
        ),
        (ValueError("the env has no such wall"), "FAIL", "error"),
        (AssertionError("the env has no such wall"), "FAIL", "error"),
        (OSError(28, "No space left on device"), "FAIL", "error"),
    ],
)
def test_only_a_collapse_prunes_a_trial_and_every_other_error_fails_it(
    error: Exception, state: str, attribute: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def learn(*_: object) -> None:
        raise error

    monkeypatch.setattr(TrialManager, "learn", learn)
    base = {"policy": "StableMlpPolicy", "n_envs": 1, "n_steps": 32, "batch_size": 32, "n_timesteps": 64}
    register()
    plan = Plan("stable_ppo", "CartPole-v1", base, 64, (0,), 1, 1, False, tmp_path)
    study = optuna.create_study()
    study.optimize(plan.objective, n_trials=1, catch=(Exception,))
    (trial,) = study.trials
    assert trial.state.name == state
    assert set(trial.user_attrs) == {attribute}
    assert one_line(error) in trial.user_attrs[attribute]
