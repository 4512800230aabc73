"""Runs with a GuardCallback: identity with stock, runs that broke off, saved models, and what it refuses."""

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from sb3_contrib import ARS
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import EvalCallback, EveryNTimesteps
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

from helpers.guard_callback import (
    ALGORITHMS,
    ON,
    STEPS,
    Sensor,
    When,
    assert_given_back,
    assert_given_back_but_for,
    counts,
    interrupt,
    is_finite,
    make,
    nan_gradients,
    quiet,
)
from helpers.weights import assert_same_weights
from sb3_stable_ppo import CollapseError, StablePPO
from sb3_stable_ppo.guards.callback import GuardCallback

pytestmark = pytest.mark.slow(seconds=1)


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_on_healthy_data_training_is_bit_identical_to_stock(name: str, normalise: bool) -> None:
    guard = GuardCallback(check_every=5)
    plain, guarded = make(name, normalise).learn(STEPS), make(name, normalise).learn(STEPS, callback=guard)
    assert_same_weights(plain, guarded)
    assert np.array_equal(plain._last_obs, guarded._last_obs)
    assert counts(guard) == {}
    if normalise:
        assert np.array_equal(plain.env.obs_rms.mean, guarded.env.obs_rms.mean)
        assert plain.env.ret_rms.var == guarded.env.ret_rms.var
    assert guarded.logger.name_to_value["guards/skipped_steps"] == 0
    assert_given_back(guarded)


@pytest.mark.parametrize("normalise", [False, True])
def test_after_a_run_that_broke_off_nothing_is_checked_twice(normalise: bool) -> None:
    model, guard = make("SAC", normalise, inf_at=(120,)), GuardCallback()
    with pytest.raises(KeyboardInterrupt):
        model.learn(STEPS, callback=[guard, When(40, interrupt)])
    assert "step_wait" in model.env.__dict__  # nobody has told the callback
    other = GuardCallback()
    nan_gradients(model, "critic.optimizer", 3)
    quiet(model, other)
    assert counts(guard) == {}
    assert counts(other) == {"skipped_steps": 1, "nonfinite_rewards": 1}
    assert_given_back_but_for(model, 1)


def test_a_callback_whose_run_broke_off_takes_nothing_of_another_away() -> None:
    model, guard, other = make("SAC"), GuardCallback(), GuardCallback()
    with pytest.raises(KeyboardInterrupt):
        model.learn(STEPS, callback=[guard, When(40, interrupt)])
    nan_gradients(model, "critic.optimizer", 5)
    quiet(model, other, guard)
    assert (guard.skipped_steps, other.skipped_steps) == (0, 1)
    assert is_finite(model)


def test_after_a_run_that_broke_off_the_next_without_the_callback_is_stock() -> None:
    model, guard = make("DQN", inf_at=(90,)), GuardCallback()
    with pytest.raises(KeyboardInterrupt):
        model.learn(STEPS, callback=[guard, When(40, interrupt)])
    nan_gradients(model, "policy.optimizer", 1)
    model.learn(STEPS)
    assert counts(guard) == {}
    assert not is_finite(model)
    assert np.isinf(model.replay_buffer.rewards).sum() == 1
    assert "step_wait" not in model.env.__dict__


def test_an_interrupt_within_a_step_of_the_env_gives_it_back_at_once() -> None:
    model = make("SAC")
    model.env.envs[0].unwrapped.step = interrupt
    with pytest.raises(KeyboardInterrupt):
        model.learn(STEPS, callback=GuardCallback())
    assert_given_back(model)


def test_the_second_learn_with_the_same_callback_goes_on_counting() -> None:
    model, guard = make("TD3", nan_at=(5, 100)), GuardCallback("repeat_last")
    quiet(model, guard, steps=64)
    quiet(model, guard, steps=64, reset_num_timesteps=False)
    assert guard.nonfinite_observations == 2
    assert_given_back(model)


def test_a_copy_or_a_pickle_of_the_env_in_mid_run_steps_by_itself() -> None:
    found: list[Any] = []
    model = make("SAC")
    copies = When(
        40,
        lambda model: found.extend(
            (copy.deepcopy(model.env), copy.deepcopy(model).env, pickle.loads(pickle.dumps(model.env)))
        ),
    )
    model.learn(STEPS, callback=[GuardCallback(), copies])
    for env in found:
        t, others = env.envs[0].unwrapped.t, model.env.envs[0].unwrapped.t
        env.step(np.zeros((1, 1), np.float32))
        assert (env.envs[0].unwrapped.t, model.env.envs[0].unwrapped.t) == (t + 1, others)


def test_a_zip_saved_in_mid_run_is_stock(tmp_path: Path) -> None:
    model = make("SAC", True)
    model.learn(STEPS, callback=[GuardCallback(), When(40, lambda model: model.save(tmp_path / "model"))])
    loaded = SAC.load(tmp_path / "model", env=model.env)
    assert "sb3_stable_ppo" not in repr(loaded.__dict__)
    loaded.learn(32)


def test_eval_callback_still_finds_the_same_wrappers() -> None:
    model, seen = make("SAC", True), []
    other = VecNormalize(VecMonitor(DummyVecEnv([lambda: Sensor(False)])), training=False)
    model.set_env(VecNormalize(VecMonitor(DummyVecEnv([lambda: Sensor(False)]))))
    evaluation = EvalCallback(other, n_eval_episodes=1, eval_freq=32, verbose=0)
    model.learn(STEPS, callback=[GuardCallback(), evaluation, When(40, lambda model: seen.append(model.env))])
    assert seen == [model.env]
    assert model.get_vec_normalize_env() is model.env
    assert np.isfinite(evaluation.last_mean_reward)
    assert other.obs_rms.count > 90  # type: ignore[union-attr]


def test_under_guards_of_ones_own_it_does_nothing_and_says_so() -> None:
    model = StablePPO("MlpPolicy", "CartPole-v1", batch_size=8, **ON)
    with pytest.warns(UserWarning, match="StablePPO has guards of its own: GuardCallback does nothing"):
        model.learn(32, callback=GuardCallback())
    unguarded = StablePPO("MlpPolicy", "CartPole-v1", batch_size=8, guards=None, **ON)
    guard = GuardCallback()
    nan_gradients(unguarded, "policy.optimizer", 2)
    quiet(unguarded, guard, steps=32)
    assert guard.skipped_steps == 1


def test_a_second_one_does_nothing() -> None:
    first, second = GuardCallback("repeat_last"), GuardCallback("repeat_last")
    with pytest.warns(UserWarning, match="another GuardCallback before this one|is repeated") as found:
        make("SAC", nan_at=(5,)).learn(32, callback=[first, second])
    assert len(found) == 2
    assert (first.nonfinite_observations, second.nonfinite_observations) == (1, 0)


def test_what_it_cannot_serve_is_named() -> None:
    with pytest.raises(ValueError, match="ARS is neither"):
        ARS("LinearPolicy", "CartPole-v1", n_delta=1).learn(10, callback=GuardCallback())
    with pytest.raises(ValueError, match="GuardCallback does nothing within EveryNTimesteps"):
        make("SAC").learn(32, callback=EveryNTimesteps(16, GuardCallback()))


def test_a_model_that_is_broken_already_is_refused() -> None:
    model = make("SAC", True)
    with th.no_grad():
        next(model.critic.parameters()).fill_(th.nan)
    with pytest.raises(CollapseError, match=r"broken before its training: policy\.critic\..*Load an earlier one"):
        model.learn(32, callback=GuardCallback())
    assert_given_back(model)
    model = make("SAC", True)
    model.env.obs_rms.mean[0] = np.nan
    with pytest.raises(CollapseError, match="obs_rms of VecNormalize is not finite"):
        model.learn(32, callback=GuardCallback())
    assert_given_back(model)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"on_nonfinite_obs": "ignore"}, "Unknown on_nonfinite_obs 'ignore': choose one of raise, repeat_last"),
        ({"check_every": 0}, "check_every must be a whole number of at least 1, not 0"),
        ({"max_consecutive_skips": 1.5}, "max_consecutive_skips must be a whole number of at least 1"),
    ],
)
def test_arguments_are_checked(arguments: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        GuardCallback(**arguments)


def test_verbose_prints_each_event(capsys: pytest.CaptureFixture[str]) -> None:
    quiet(make("SAC", inf_at=(3, 4)), GuardCallback(verbose=1), steps=16)
    assert capsys.readouterr().out.count("rewards at step") == 2
