"""Whether an agent has begun to learn is read from its returns, whatever the number of its steps."""

from pathlib import Path

import numpy as np
import pytest
from stable_baselines3 import PPO

from helpers.envs import make_cartpole
from sb3_stable_ppo import HealthCallback
from sb3_stable_ppo.health.learning import ENOUGH, early_model, early_training, returns_of
from sb3_stable_ppo.runs.folder import RunReader
from sb3_stable_ppo.runs.series import Series

NOISE = np.random.default_rng(0).normal(0, 0.2, 100)


def curve(values: object, first: float = 1000.0) -> Series:
    array = np.asarray(values, dtype=np.float64)
    return Series(first + 1000.0 * np.arange(len(array)), array)


NOTHING = curve([])


def test_a_return_at_its_floor_is_early_however_many_there_are() -> None:
    falls_first = np.concatenate([np.linspace(-20.2, -20.9, 20), np.full(80, -20.9)]) + NOISE
    evidence = early_training(curve(falls_first), NOTHING)
    assert evidence is not None
    assert evidence.startswith("The return, -20.9")
    assert "has not left its floor" in evidence


@pytest.mark.parametrize(
    "values",
    [
        np.concatenate([np.full(50, -20.5), np.linspace(-20.5, -17, 50)]) + NOISE,  # Pong, just begun
        np.concatenate([np.linspace(20, 480, 10), np.full(90, 490.0)]) + NOISE,  # CartPole, learnt at once
        np.linspace(-1500, -200, 100) + 100 * NOISE,  # Pendulum
        np.concatenate([np.full(90, -500.0), np.linspace(-500, -100, 10)]),  # Acrobot, flat for long
    ],
)
def test_a_return_that_has_left_its_floor_is_learning(values: np.ndarray) -> None:
    assert early_training(curve(values), NOTHING) is None


def test_few_returns_and_ones_that_are_not_finite_tell_nothing() -> None:
    risen = np.linspace(-20, 10, ENOUGH - 1)
    assert early_training(curve(risen), NOTHING) == "19 returns on record tell nothing yet, fewer than 20."
    assert early_training(curve([*risen, np.nan]), NOTHING) == "19 returns on record tell nothing yet, fewer than 20."
    assert early_training(curve([*risen, 11.0]), NOTHING) is None


def test_of_a_run_that_was_resumed_nobody_knows_the_floor() -> None:
    assert early_training(curve(np.full(50, 18.0), first=1_000_000), NOTHING) is None
    assert early_training(curve(np.full(50, 18.0)), NOTHING) is not None


@pytest.mark.parametrize(
    ("explained", "said"),
    [
        ([0.1, 0.9, 0.95], "The critic explains 90% of"),
        ([-3.0] * 5, "explains 0% of the returns' variance: it does not"),
    ],
)
def test_the_critic_is_told_of(explained: list[float], said: str) -> None:
    assert said in str(early_training(curve(np.full(50, -20.0)), curve(explained)))


def test_of_a_model_alone_its_finished_episodes_tell() -> None:
    assert early_model([1.0] * 3) == "3 finished episodes tell nothing yet, fewer than 20."
    assert early_model([1.0] * ENOUGH) is None


def test_a_line_of_health_has_the_mean_return_of_the_last_episodes_and_the_explained_variance(tmp_path: Path) -> None:
    model = PPO("MlpPolicy", make_cartpole(), n_steps=64, batch_size=64, n_epochs=1, seed=0)
    model.learn(5 * 128, callback=HealthCallback(folder=tmp_path, budget=None))
    lines = [*RunReader(tmp_path).health()]
    returns, explained = returns_of(lines)
    assert len(returns.steps) == len(explained.steps) == len(lines) == 5
    assert returns.values[-1] == pytest.approx(np.mean([episode["r"] for episode in model.ep_info_buffer]))
