"""What tune searches: the parameters of a trial, and the configuration they make."""

import json

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FixedTrial

import sb3_stable_ppo
from helpers.tuning import (
    PARAMS,
)
from sb3_stable_ppo.studies.space import (
    INTERVENTIONS,
    OF_SPACE_1,
    SCHEDULES,
    SEARCHED,
    VERSION,
    as_hyperparams,
    as_shown,
    sample,
    version_of,
)


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
        "n_steps": 64,
        "batch_size": 32,
        "learning_rate": {"schedule": "step", "initial": 2e-3, "step_size": 3, "gamma": 0.9},
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


def test_the_samplers_of_optuna_take_the_whole_space() -> None:
    trial = optuna.create_study().ask()
    sample(trial, guarded=True)
    kinds = {type(distribution) for distribution in trial.distributions.values()}
    assert {FloatDistribution, CategoricalDistribution} <= kinds


def test_what_is_shown_of_a_trial_is_what_its_configuration_has() -> None:
    shown = as_shown(PARAMS)
    assert (shown["gamma"], shown["gae_lambda"]) == (0.98, 0.9)
    assert not [name for name in shown if name.startswith("one_minus")]
    entry = as_hyperparams(PARAMS, {}, 100)
    written = {**entry, **entry["policy_kwargs"], **entry["guards"]}
    elsewhere = {"learning_rate", "schedule", "intervention"}
    assert {name: written[name] for name in shown.keys() - elsewhere} == {
        name: value for name, value in shown.items() if name not in elsewhere
    }


@pytest.mark.parametrize(
    ("n_timesteps", "n_envs", "longest"),
    [(None, 1, 2048), (10**6, 8, 2048), (100_000, 8, 1024), (10_000, 8, 64), (2_000, 8, 16), (64, 8, 2)],
)
def test_a_run_has_ten_updates_whatever_its_rollout(n_timesteps: int | None, n_envs: int, longest: int) -> None:
    trial = optuna.create_study().ask()
    sample(trial, guarded=True, n_timesteps=n_timesteps, n_envs=n_envs)
    found = trial.distributions["n_steps_pow"]
    assert isinstance(found, IntDistribution)
    assert (2**found.low, 2**found.high) == (min(32, longest), longest)


def test_a_minibatch_is_at_most_the_rollout() -> None:
    params = {**PARAMS, "n_steps_pow": 5, "batch_size_pow": 10}
    assert as_hyperparams(params, {"n_envs": 4}, 10_000)["batch_size"] == 128
    params.pop("n_steps_pow")
    assert as_hyperparams(params, {"n_envs": 4, "n_steps": 100}, 10_000)["batch_size"] == 400
    assert as_hyperparams(params, {"n_envs": 4, "n_steps": 512}, 10_000)["batch_size"] == 1024


def test_what_all_trials_have_is_not_searched() -> None:
    params = sample(FixedTrial(PARAMS), guarded=True, held=["n_steps"])
    assert PARAMS.keys() - params.keys() == {"n_steps_pow"}
    entry = as_hyperparams(params, {"n_steps": 100, "batch_size": 50}, 10_000)
    assert (entry["n_steps"], entry["batch_size"]) == (100, 32)


def test_a_study_of_the_first_space_has_its_parameters_and_no_others() -> None:
    study = optuna.create_study()
    trial = study.ask()
    assert version_of(trial) == VERSION
    params = sample(trial, guarded=True, version=1)
    assert not [name for name in params if name.endswith("_pow")]
    schedule = trial.distributions["schedule"]
    assert isinstance(schedule, CategoricalDistribution)
    assert schedule.choices == OF_SPACE_1
    assert version_of(study.ask()) == 1
    entry = as_hyperparams({**PARAMS, **params}, {"n_steps": 100}, 10_000)
    assert entry.keys() <= {"n_timesteps", *SEARCHED}
    assert "n_steps" not in as_hyperparams(params, {}, 10_000), "what the configuration does not say stays SB3's"


def test_a_study_of_the_second_space_goes_on_without_interventions() -> None:
    study = optuna.create_study()
    params = sample(study.ask(), guarded=True, version=2)
    assert "n_steps_pow" in params
    assert "intervention" not in params
    assert version_of(study.ask()) == 2


@pytest.mark.parametrize("name", INTERVENTIONS)
def test_an_intervention_is_drawn_with_its_strength_and_joins_the_callbacks_of_the_configuration(name: str) -> None:
    argument, low, _ = INTERVENTIONS[name]
    strength = f"{name}_{argument}"
    params = sample(FixedTrial({**PARAMS, "intervention": name, strength: low}), guarded=True)
    assert {key: params[key] for key in ("intervention", strength)} == {"intervention": name, strength: low}
    added = {f"sb3_stable_ppo.{name}": {argument: low}}
    health = "sb3_stable_ppo.HealthCallback"
    given = {"callback": [health, {f"sb3_stable_ppo.{name}": {argument: 1.0}}]}
    assert as_hyperparams(params, given, 100)["callback"] == [health, added]
    assert as_hyperparams(params, {"callback": health}, 100)["callback"] == [health, added]
    assert as_hyperparams(params, {}, 100)["callback"] == [added]
    assert "callback" not in as_hyperparams({**PARAMS, "intervention": "none"}, {}, 100)
    assert as_hyperparams({**PARAMS, "intervention": "none"}, given, 100)["callback"] == [health]
    callback = getattr(sb3_stable_ppo, name)(**added[f"sb3_stable_ppo.{name}"])
    assert getattr(callback, argument) == low
