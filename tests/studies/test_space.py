"""What tune searches: the parameters of a trial, and the configuration they make."""

import json

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FixedTrial

from helpers.tuning import (
    PARAMS,
)
from sb3_stable_ppo.studies.space import SCHEDULES, as_hyperparams, as_shown, sample


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
    assert {name: written[name] for name in shown.keys() - {"learning_rate", "schedule"}} == {
        name: value for name, value in shown.items() if name not in ("learning_rate", "schedule")
    }
