"""StepLR(step_size="auto"): the last update of the first learn() has a tenth of the start, and the step stays."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, strategies as st
from stable_baselines3 import A2C, DQN, PPO

from helpers.envs import make_cartpole
from helpers.rates import SMALL, UPDATE, RateRecorder
from sb3_stable_ppo import LRSchedulerCallback, StablePPO, StepLR
from sb3_stable_ppo.schedules.learning_rate import counting_schedule, make_schedule
from sb3_stable_ppo.schedules.step_size import step_to_a_tenth


def rates_of(updates: int, schedule: Any, **learn: Any) -> tuple[StablePPO, list[float]]:
    model, rates = StablePPO("MlpPolicy", make_cartpole(), learning_rate=schedule, **SMALL), RateRecorder()
    model.learn(updates * UPDATE, callback=rates, **learn)
    return model, rates.used


@pytest.mark.parametrize(
    ("updates", "gamma", "step", "decays"),
    [
        (9766, 0.9, 425, 22),  # Pong's ten million steps
        (23, 0.9, 1, 22),
        (24, 0.9, 1, 23),  # 0.089 is nearer than the 0.314 of step 2
        (40, 0.9, 2, 19),  # 0.135 against 0.016
        (100, 0.5, 25, 3),  # four equal parts, the last at an eighth
        (100, 0.1, 50, 1),
        (100, 0.01, 50, 1),
        (5, 0.9, 1, 4),  # fewer updates than decays: each decays
        (1, 0.9, 1, 0),
        (0, 0.9, 1, 0),
        (100, 0.9999, 1, 99),
    ],
)
def test_the_step_brings_the_last_update_nearest_to_a_tenth(updates: int, gamma: float, step: int, decays: int) -> None:
    assert step_to_a_tenth(updates, gamma) == step
    assert max(updates - 1, 0) // step == decays


@given(updates=st.integers(1, 3000), gamma=st.floats(0.01, 0.999))
def test_no_other_whole_step_comes_nearer(updates: int, gamma: float) -> None:
    def miss(step: int) -> float:
        return abs(float(gamma ** ((updates - 1) // step)) - 0.1)

    assert miss(step_to_a_tenth(updates, gamma)) <= min(map(miss, range(1, updates + 1))) + 1e-12


def test_before_training_the_rate_is_that_of_the_first_update() -> None:
    assert StepLR(1e-3, "auto")(1.0) == 1e-3
    assert StepLR(1e-3, "auto", warmup=3)(1.0) == 2.5e-4


def test_a_run_ends_at_a_tenth() -> None:
    _, used = rates_of(8, StepLR(1e-3, "auto", 0.5))
    assert used == [1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4, 2.5e-4, 1.25e-4, 1.25e-4]


def test_a_run_of_few_updates_decays_after_each() -> None:
    _, used = rates_of(3, StepLR(1e-3, "auto"))
    assert used == pytest.approx([1e-3, 9e-4, 8.1e-4])


def test_the_warm_up_comes_before_the_decays() -> None:
    _, used = rates_of(7, StepLR(1e-3, "auto", 0.5, warmup=3))
    assert used == [2.5e-4, 5e-4, 7.5e-4, 1e-3, 5e-4, 2.5e-4, 1.25e-4]


def test_a_warm_up_as_long_as_the_run_leaves_no_room_to_decay() -> None:
    _, used = rates_of(3, StepLR(1e-3, "auto", warmup=9))
    assert used == pytest.approx([1e-4, 2e-4, 3e-4])


@pytest.mark.parametrize("more", [0, -1, -15])
def test_in_steps_the_last_update_has_a_tenth_too(more: int) -> None:
    """Also where the run is longer than asked for, because it ends with a whole rollout."""
    model = StablePPO("MlpPolicy", make_cartpole(), learning_rate=StepLR(1e-3, "auto", unit="steps"), **SMALL)
    rates = RateRecorder()
    model.learn(8 * UPDATE + more, callback=rates)
    assert len(rates.used) == 8
    assert rates.used[0] == 1e-3
    assert rates.used[-1] == pytest.approx(1e-3 * 0.9**22)


def test_a_resumed_run_keeps_the_step(tmp_path: Path) -> None:
    model, used = rates_of(4, StepLR(1e-3, "auto", 0.5))
    assert used == [1e-3, 5e-4, 2.5e-4, 1.25e-4]
    model.save(tmp_path / "model")
    loaded, rates = StablePPO.load(tmp_path / "model", env=make_cartpole()), RateRecorder()
    assert loaded.lr_schedule(1.0) == 6.25e-5
    loaded.learn(2 * UPDATE, callback=rates, reset_num_timesteps=False)
    assert rates.used == [6.25e-5, 3.125e-5]


def test_a_new_run_has_a_step_of_its_own_length() -> None:
    model, _ = rates_of(4, StepLR(1e-3, "auto", 0.5))
    rates = RateRecorder()
    model.learn(8 * UPDATE, callback=rates)
    assert rates.used == [1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4, 2.5e-4, 1.25e-4, 1.25e-4]


def test_two_models_of_one_schedule_have_each_the_step_of_their_run() -> None:
    schedule = StepLR(1e-3, "auto", 0.5)
    assert [len(set(rates_of(n, schedule)[1])) for n in (4, 8)] == [4, 4]
    assert schedule.fixed_step is None


@pytest.mark.parametrize(
    ("unit", "after"),
    [("updates", [6.25e-5, 3.125e-5]), ("steps", [6.25e-5, 1.5625e-5])],  # at steps 64 and 80, a decay each 13
)
def test_the_callback_brings_stock_ppo_to_a_tenth_and_resumes(unit: str, after: list[float], tmp_path: Path) -> None:
    def callback() -> LRSchedulerCallback:
        return LRSchedulerCallback("step", initial=1e-3, step_size="auto", gamma=0.5, unit=unit)

    rates = RateRecorder()
    model = PPO("MlpPolicy", make_cartpole(), **SMALL).learn(4 * UPDATE, callback=[callback(), rates])
    assert rates.used == [1e-3, 5e-4, 2.5e-4, 1.25e-4]
    model.save(tmp_path / "model")
    loaded, rates = PPO.load(tmp_path / "model", env=make_cartpole()), RateRecorder()
    loaded.learn(2 * UPDATE, callback=[callback(), rates], reset_num_timesteps=False)
    assert rates.used == after


def test_a_new_schedule_on_a_model_that_goes_on_ends_at_a_tenth_too() -> None:
    model, rates = A2C("MlpPolicy", make_cartpole(), n_steps=8, seed=0).learn(10 * UPDATE), RateRecorder()
    callback = LRSchedulerCallback("step", initial=1e-3, step_size="auto", gamma=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.learn(4 * UPDATE, callback=[callback, rates], reset_num_timesteps=False)
    assert rates.used == [1e-3, 5e-4, 2.5e-4, 1.25e-4]


def test_an_off_policy_run_ends_at_a_tenth() -> None:
    model = DQN("MlpPolicy", make_cartpole(1), learning_starts=20, train_freq=10, seed=0)
    model.learn(60, callback=LRSchedulerCallback("step", initial=1e-3, step_size="auto", gamma=0.5))
    schedule = counting_schedule(model.learning_rate)
    assert schedule is not None
    assert [schedule.value_at(count) for count in range(4)] == [1e-3, 5e-4, 2.5e-4, 1.25e-4]
    assert schedule.count == 4


def test_where_updates_come_after_episodes_the_error_says_what_to_give() -> None:
    model = DQN("MlpPolicy", make_cartpole(1), train_freq=(1, "episode"))
    with pytest.raises(ValueError, match=r"give StepLR a step_size in numbers, or unit='steps'"):
        model.learn(50, callback=LRSchedulerCallback("step", step_size="auto"))


def test_it_gives_no_warning_of_an_early_end() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        StepLR(step_size="auto").begin(0, 10_000_000, 9766, restart=True, steps_per_update=1024)


def test_yaml_gives_it_by_its_word() -> None:
    options = yaml.safe_load("{schedule: step, initial: 1e-4, step_size: auto}")
    schedule = make_schedule(**options)
    assert repr(schedule) == "StepLR(initial=0.0001, warmup=0, unit='updates', step_size='auto', gamma=0.9)"
    before = repr(schedule)
    schedule.begin(0, 160, 10, restart=True, steps_per_update=16)
    assert repr(schedule) == before, "by which a run that goes on is known"


def test_a_schedule_pickled_without_a_fixed_step_unpickles() -> None:
    schedule = pickle.loads(pickle.dumps(StepLR(1e-3, 2, 0.5)))
    assert "fixed_step" not in schedule.__dict__
    schedule.begin(0, 160, 10, restart=True)
    assert [schedule.value_at(count) for count in (0, 1, 2)] == [1e-3, 1e-3, 5e-4]
