"""Whether an agent has begun to learn is read from its returns, whatever the number of its steps."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import PPO

from helpers.envs import make_cartpole
from sb3_stable_ppo import HealthCallback
from sb3_stable_ppo.health.learning import (
    Returns,
    early_model,
    early_training,
    explained_variance_of,
    returns_of_health,
    returns_of_log,
    unknown_floor,
)
from sb3_stable_ppo.health.thresholds import ENOUGH_EPISODES
from sb3_stable_ppo.runs.folder import RunReader
from sb3_stable_ppo.runs.series import Series

GENERATOR = np.random.default_rng(0)
NOISE = GENERATOR.normal(0, 0.1, 100)


def returns(means: Any, error: float | None = 0.1, first: float = 1000.0) -> Returns:
    array = np.asarray(means, dtype=np.float64)
    steps = first + 1000.0 * np.arange(len(array))
    return Returns(steps, array, None if error is None else np.full(len(array), error))


NOTHING = Series(np.array([]), np.array([]))


def lines_of(episodes: np.ndarray, every: int) -> list[dict[str, Any]]:
    """Lines of health.jsonl as they are written after each so many episodes."""
    found = []
    for end in range(every, len(episodes) + 1, every):
        last = episodes[:end][-100:]
        row = {"ep_rew_mean": float(last.mean()), "ep_rew_std": float(last.std()), "episodes": len(last)}
        found.append({"step": 20 * end, "rollout": row, "train": {"explained_variance": 0.1}})
    return found


def test_a_return_at_its_floor_is_early_however_many_there_are() -> None:
    falls_first = np.concatenate([np.linspace(-20.2, -20.9, 20), np.full(80, -20.9)]) + NOISE
    evidence = early_training(returns(falls_first), NOTHING)
    assert evidence is not None
    assert evidence.startswith("The return, -20.9")
    assert "has not left its floor" in evidence


LEARNING = [
    np.concatenate([np.full(50, -20.5), np.linspace(-20.5, -17, 50)]) + NOISE,  # Pong, just begun
    np.concatenate([np.linspace(20, 480, 10), np.full(90, 490.0)]) + NOISE,  # CartPole, learnt at once
    np.linspace(-1500, -200, 100) + 100 * NOISE,  # Pendulum
    np.concatenate([np.full(90, -500.0), np.linspace(-500, -100, 10)]),  # Acrobot, flat for long
    np.array([20.0, 71.0]),  # a short run that was worth it
]


@pytest.mark.parametrize("means", LEARNING)
def test_a_return_that_has_left_its_floor_is_learning(means: np.ndarray) -> None:
    assert early_training(returns(means, float(0.002 * np.ptp(means))), NOTHING) is None


@pytest.mark.parametrize("means", LEARNING[1:4])
def test_without_standard_errors_it_takes_a_quarter_of_the_floor(means: np.ndarray) -> None:
    assert early_training(returns(means, None), NOTHING) is None
    assert early_training(returns(LEARNING[0], None), NOTHING) is not None


def test_episodes_that_chance_alone_moves_are_early_though_their_window_fills_first() -> None:
    """CartPole's returns under a random policy: 8 to 100, far from normal; a few of them have a low or high mean."""
    early = 0
    for seed in range(200):
        episodes = 9 + np.random.default_rng(seed).exponential(13, 300)
        found = returns_of_health(lines_of(episodes, 5))
        assert found is not None
        early += early_training(found, NOTHING) is not None
    assert early >= 190


def test_few_episodes_tell_nothing() -> None:
    found = returns_of_health(lines_of(np.linspace(0, 100, ENOUGH_EPISODES - 1), 1))
    assert found is not None
    assert early_training(found, NOTHING) == "Fewer than 20 finished episodes tell nothing yet."
    assert early_training(returns_of_log(None), NOTHING) == "Fewer than 20 finished episodes tell nothing yet."
    assert early_model(3) == "Fewer than 20 finished episodes tell nothing yet."
    assert early_model(ENOUGH_EPISODES) is None


def test_the_return_of_a_model_is_told_as_far_as_it_is_known() -> None:
    def told(*episodes: dict[str, float]) -> str | None:
        return unknown_floor(SimpleNamespace(ep_info_buffer=episodes))

    assert told({"r": -21.0}, {"r": -20.0}, {"l": 3}) == (
        "The last 2 episodes of training had a mean return of -20.5. The zip alone does not tell whether the return "
        "has left its floor."
    )
    assert told() is None
    assert told({"r": float("inf")}) is None


def test_of_a_run_that_was_resumed_nobody_knows_the_floor() -> None:
    assert early_training(returns(np.full(50, 18.0), first=1_000_000), NOTHING) is None
    assert early_training(returns([18.0, 18.0], first=1_000_000), NOTHING) is None
    assert early_training(returns(np.full(50, 18.0)), NOTHING) is not None


@pytest.mark.parametrize(
    ("explained", "said"),
    [
        ([0.1, 0.9, 0.95], "The critic explains 90% of"),
        ([-3.0] * 5, "explains 0% of the returns' variance: it does not"),
    ],
)
def test_the_critic_is_told_of(explained: list[float], said: str) -> None:
    curve = Series(np.arange(len(explained), dtype=np.float64), np.array(explained))
    assert said in str(early_training(returns(np.full(50, -20.0)), curve))


def test_lines_of_version_0_1_0_have_no_returns_and_null_is_none() -> None:
    assert returns_of_health([{"step": 1, "train": {}}]) is None
    broken = {"ep_rew_mean": None, "ep_rew_std": 1.0, "episodes": 50}
    found = returns_of_health([{"step": 1, "rollout": broken}])
    assert found is not None
    assert len(found.means) == 0


def test_a_line_of_health_has_the_last_episodes_and_the_explained_variance(tmp_path: Path) -> None:
    model = PPO("MlpPolicy", make_cartpole(), n_steps=256, batch_size=256, n_epochs=1, seed=0)
    model.learn(5 * 512, callback=HealthCallback(folder=tmp_path, budget=None))
    lines = [*RunReader(tmp_path).health()]
    assert len(explained_variance_of(lines).steps) == len(lines) == 5
    episodes = np.array([episode["r"] for episode in model.ep_info_buffer])
    found = returns_of_health(lines)
    assert found is not None
    assert found.errors is not None
    assert found.means[-1] == pytest.approx(episodes.mean())
    assert found.errors[-1] == pytest.approx(episodes.std() / len(episodes) ** 0.5)


def test_a_run_whose_first_episodes_are_long_is_not_taken_for_a_resumed_one() -> None:
    lines = [{"step": 10_000 * number, "rollout": {}, "train": {}} for number in range(1, 20)]
    for number, line in enumerate(lines[1:], start=2):
        line["rollout"] = {"ep_rew_mean": -300.0, "ep_rew_std": 1.0, "episodes": 10 * number}
    found = returns_of_health(lines)
    assert found is not None
    assert early_training(found, NOTHING) is not None
    assert early_training(found._replace(began=None), NOTHING) is None
