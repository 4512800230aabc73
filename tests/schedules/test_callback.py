"""LRSchedulerCallback: it counts for any algorithm, and says where nothing would be counted."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sb3_contrib import ARS
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.callbacks import EveryNTimesteps

from helpers.envs import make_cartpole
from helpers.rates import SMALL, UPDATE, RateRecorder
from sb3_stable_ppo import LinearLR, LRSchedulerCallback, StablePPO, StepLR
from sb3_stable_ppo.schedules.learning_rate import counting_schedule

pytestmark = pytest.mark.slow(seconds=1)


@pytest.mark.parametrize("algorithm", [PPO, A2C])
def test_the_callback_counts_updates_for_stock_algorithms(algorithm: type) -> None:
    options = SMALL if algorithm is PPO else {"n_steps": 8, "seed": 0}
    model, rates = algorithm("MlpPolicy", make_cartpole(), **options), RateRecorder()
    model.learn(5 * UPDATE, callback=[LRSchedulerCallback("step", initial=1e-3, step_size=2, gamma=0.5), rates])
    assert rates.used == rates.logged == [1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4]
    assert counting_schedule(model.learning_rate).count == 5


def test_the_callback_counts_train_calls_of_an_off_policy_algorithm() -> None:
    model = DQN("MlpPolicy", make_cartpole(1), learning_starts=20, train_freq=10, gradient_steps=3, seed=0)
    model.learn(60, callback=LRSchedulerCallback(StepLR(1e-3, 2, 0.9)))
    assert counting_schedule(model.learning_rate).count == 4  # after steps 30, 40, 50, 60; none at 10 and 20


@pytest.mark.parametrize(("train_freq", "updates"), [(4, 75), (10, 30)])
def test_the_length_of_an_off_policy_run_is_that_of_its_updates(train_freq: int, updates: int) -> None:
    model = SAC("MlpPolicy", "Pendulum-v1", learning_starts=100, train_freq=train_freq, policy_kwargs={"net_arch": [8]})
    model.learn(400, callback=LRSchedulerCallback(LinearLR(1e-3)))
    schedule = counting_schedule(model.learning_rate)
    assert schedule is not None
    assert schedule.value_at(updates) == 0.0
    assert updates - 1 <= schedule.count <= updates


@pytest.mark.parametrize(
    "make",
    [
        lambda: TD3("MlpPolicy", "Pendulum-v1", train_freq=(1, "episode"), policy_kwargs={"net_arch": [8]}, seed=0),
        lambda: ARS("LinearPolicy", "Pendulum-v1", n_delta=1, n_top=1, seed=0),
    ],
    ids=["TD3", "ARS"],
)
def test_where_updates_come_after_episodes_a_schedule_as_long_as_the_run_asks_for_its_length(
    make: Callable[[], Any],
) -> None:
    with pytest.raises(ValueError, match=r"updates after whole episodes here.*give LinearLR a total=, or unit='steps'"):
        make().learn(400, callback=LRSchedulerCallback(LinearLR(1e-3)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nobody knows whether it ends too early
        model = make().learn(400, callback=LRSchedulerCallback(LinearLR(1e-3, total=20)))
    assert counting_schedule(model.learning_rate).count in (1, 2)


def test_a_learn_of_no_steps_is_none_with_a_schedule_at_its_end_too() -> None:
    model = PPO("MlpPolicy", make_cartpole(), learning_rate=StepLR(1e-3, 1, 0.1), **SMALL)
    with pytest.warns(UserWarning, match="falls below a thousandth of its start"):
        model.learn(5 * UPDATE, callback=LRSchedulerCallback())
    model.learn(0, reset_num_timesteps=False, callback=LRSchedulerCallback())
    assert counting_schedule(model.learning_rate).count == 5


def test_a_callback_used_twice_gives_each_model_a_count_of_its_own() -> None:
    callback = LRSchedulerCallback(StepLR(1e-3))
    models = [PPO("MlpPolicy", make_cartpole(), **SMALL).learn(n * UPDATE, callback=callback) for n in (3, 2)]
    assert [counting_schedule(model.learning_rate).count for model in models] == [3, 2]
    own = LRSchedulerCallback()
    first = PPO("MlpPolicy", make_cartpole(), learning_rate=StepLR(1e-3), **SMALL).learn(UPDATE, callback=own)
    other = PPO("MlpPolicy", make_cartpole(), learning_rate=LinearLR(5e-2), **SMALL).learn(UPDATE, callback=own)
    assert [type(counting_schedule(m.learning_rate)) for m in (first, other)] == [StepLR, LinearLR]


def test_the_callback_leaves_counting_to_stable_ppo() -> None:
    model = StablePPO("MlpPolicy", make_cartpole(), **SMALL)
    model.learn(4 * UPDATE, callback=LRSchedulerCallback("step", initial=1e-3))
    assert counting_schedule(model.learning_rate).count == 4


def test_stock_ppo_without_the_callback_says_that_nothing_counts() -> None:
    model = PPO("MlpPolicy", make_cartpole(), learning_rate=StepLR(), **SMALL)
    with pytest.raises(RuntimeError, match=r"nothing counts them here.*any algorithm with LRSchedulerCallback"):
        model.learn(2 * UPDATE)


def test_a_later_learn_without_the_callback_says_that_nothing_counts() -> None:
    model = PPO("MlpPolicy", make_cartpole(), **SMALL).learn(2 * UPDATE, callback=LRSchedulerCallback(LinearLR(1e-3)))
    with pytest.raises(RuntimeError, match="nothing counts them here"):
        model.learn(2 * UPDATE)
    model.learn(2 * UPDATE, callback=LRSchedulerCallback())


def test_the_callback_without_any_schedule_says_so() -> None:
    model = PPO("MlpPolicy", make_cartpole(), learning_rate=1e-3, **SMALL)
    with pytest.raises(ValueError, match=r"nothing to count: learning_rate is 0\.001"):
        model.learn(UPDATE, callback=LRSchedulerCallback())


@pytest.mark.parametrize("given", [1e-3, StepLR, lambda progress: 1e-3 * progress, {"schedule": "step"}])
def test_the_callback_refuses_at_once_what_is_no_schedule_that_counts(given: Any) -> None:
    with pytest.raises(ValueError, match=r"takes a schedule that counts updates.*the name of one \(step, .*\), not "):
        LRSchedulerCallback(given)


def test_within_a_callback_of_events_the_callback_says_that_it_counts_nothing() -> None:
    within = EveryNTimesteps(16, LRSchedulerCallback("step", initial=1e-3))
    with pytest.raises(ValueError, match=r"counts nothing within EveryNTimesteps.*Give it to learn\(\) beside"):
        PPO("MlpPolicy", make_cartpole(), **SMALL).learn(UPDATE, callback=within)


def test_the_callback_resumes_a_loaded_stock_model_where_it_stopped(tmp_path: Path) -> None:
    model, callback = PPO("MlpPolicy", make_cartpole(), **SMALL), LRSchedulerCallback("step", initial=1e-3, step_size=2)
    model.learn(3 * UPDATE, callback=callback)
    model.save(tmp_path / "model")
    loaded, rates = PPO.load(tmp_path / "model", env=make_cartpole()), RateRecorder()
    again = LRSchedulerCallback("step", initial=1e-3, step_size=2)
    loaded.learn(2 * UPDATE, callback=[again, rates], reset_num_timesteps=False)
    assert rates.used == pytest.approx([9e-4, 8.1e-4])
