"""Intervals in steps or updates, and what counts updates."""

from pathlib import Path
from typing import Any

import pytest
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback

from helpers.envs import make_cartpole
from sb3_stable_ppo import ActivationSnapshotCallback, HealthCallback
from sb3_stable_ppo.runs.interval import Interval, UpdateCounter


def test_an_interval_is_in_steps_or_in_updates() -> None:
    assert Interval.of(None, None) is None
    assert Interval.of(1000, None) == Interval(1000, "steps")
    assert Interval.of(None, "1e1") == Interval(10, "updates")
    with pytest.raises(ValueError, match=r"every=1 counts environment steps, every_updates=2 counts updates, and both"):
        Interval.of(1, 2)


class Counts(BaseCallback):
    """The count of updates when the next rollout begins, and at the end."""

    def _on_training_start(self) -> None:
        self.counter, self.seen = UpdateCounter(), list[int]()
        self.counter.begin(self.model)

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        self.counter.look()
        self.seen.append(self.counter.count)

    def _on_training_end(self) -> None:
        self._on_rollout_start()


@pytest.mark.parametrize(
    ("model", "seen"),
    [
        (lambda: PPO("MlpPolicy", make_cartpole(), n_steps=16, batch_size=32, n_epochs=3), [0, 1, 2, 3]),
        (lambda: A2C("MlpPolicy", make_cartpole(), n_steps=16), [0, 1, 2, 3]),
        (
            lambda: DQN("MlpPolicy", make_cartpole(1), learning_starts=40, train_freq=24, gradient_steps=5),
            [0, 0, 1, 2, 3],
        ),
    ],
)
def test_each_train_counts_once_whatever_it_does(model: Any, seen: list[int]) -> None:
    counts = Counts()
    model().learn(96, callback=counts)
    assert counts.seen == seen


@pytest.mark.parametrize("callback", [HealthCallback, ActivationSnapshotCallback])
def test_the_end_of_a_training_that_never_began_is_none_of_an_update(callback: Any, tmp_path: Path) -> None:
    """rl_zoo3 calls it whatever happens."""
    callback(folder=tmp_path, every_updates=1).on_training_end()
    assert list(tmp_path.iterdir()) == []
