"""The budget of HealthCallback: every part of a measurement is counted, by clocks that the tests turn."""

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from stable_baselines3 import A2C, PPO

from helpers.envs import make_cartpole
from sb3_stable_ppo import HealthCallback
from sb3_stable_ppo.checkpoints.callback_state import callback_states, set_callback_states
from sb3_stable_ppo.health import budget, callback, measurement
from sb3_stable_ppo.health.budget import Budget
from sb3_stable_ppo.probes import gradients


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """
    The time. Taking rows lasts one second, a pass over the policy ten; the recorder's own clock moves by one second
    in each of its hooks.
    """
    clock = [0.0]

    def lasting(seconds: float, function: Callable[..., Any]) -> Callable[..., Any]:
        def slow(*args: Any, **kwargs: Any) -> Any:
            clock[0] += seconds
            return function(*args, **kwargs)

        return slow

    monkeypatch.setattr(budget, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr(gradients, "time", SimpleNamespace(perf_counter=partial(next, itertools.count())))
    monkeypatch.setattr(callback, "strided_observations", lasting(1.0, callback.strided_observations))
    for module in (callback, measurement):  # after the update, and before it
        monkeypatch.setattr(module, "inspect_policy", lasting(10.0, module.inspect_policy))
    return clock


@pytest.mark.usefixtures("now")
def test_the_pass_before_the_update_and_the_gradients_during_it_count(tmp_path: Path) -> None:
    health = HealthCallback(folder=tmp_path, budget=None)
    PPO("MlpPolicy", make_cartpole(), n_steps=32, batch_size=32, n_epochs=3, seed=0).learn(64, callback=health)
    hooks = 4 * 2 * 3  # layers, minibatches, epochs
    assert health._budget.thorough_cost == health._budget.spent == 1 + 10 + hooks + 10


@pytest.mark.usefixtures("now")
def test_rollouts_that_are_pooled_count(tmp_path: Path) -> None:
    health = HealthCallback(folder=tmp_path, budget=None)
    A2C("MlpPolicy", "CartPole-v1", n_steps=5, seed=0).learn(35, callback=health)
    assert health.n_measured == 1
    assert health._budget.thorough_cost == 7 * 1 + 10 + 4 + 10


def test_a_thorough_measurement_waits_until_all_of_it_has_room(now: list[float]) -> None:
    clock = Budget(0.01)
    assert clock.allows_thorough(), "the first"
    for part in (2.0, 3.0):  # before the update, and after it
        with clock.clocked():
            now[0] += part
    clock.end_measurement(thorough=True)
    assert clock.thorough_cost == 5.0
    now[0] = 999.0
    assert not clock.allows_thorough()
    now[0] = 1000.0  # of which 1% is what it has cost and what it will cost
    assert clock.allows_thorough()


@pytest.mark.usefixtures("now")
def test_without_room_one_measurement_in_so_many_is_thorough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "RARELY", 3)
    clock, thorough = Budget(1e-9), []
    for _ in range(9):
        with clock.clocked():
            thorough.append(clock.allows_thorough())
        clock.spent += 1.0
        clock.end_measurement(thorough[-1])
    assert [number for number, it_is in enumerate(thorough) if it_is] == [0, 4, 8]


def test_the_time_of_a_run_goes_on_with_it_from_a_checkpoint(now: list[float], tmp_path: Path) -> None:
    def trained(name: str) -> HealthCallback:
        health = HealthCallback(folder=tmp_path / name)
        PPO("MlpPolicy", make_cartpole(), n_steps=32, batch_size=32, n_epochs=1, seed=0).learn(32, callback=health)
        return health

    first = trained("first")
    now[0] += 1000.0
    elapsed = first._budget.elapsed
    states, _ = callback_states([first])
    now[0] += 5000.0  # in which nobody trains
    second = trained("second")
    set_callback_states([second], states)
    assert elapsed > 1000.0
    assert second._budget.elapsed == elapsed
    now[0] += 7.0
    assert second._budget.elapsed == elapsed + 7.0
