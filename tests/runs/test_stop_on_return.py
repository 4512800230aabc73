"""Training ends when the last episodes have the return that was asked for, not before."""

from statistics import fmean
from typing import Any

import pytest
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback

from helpers.envs import make_cartpole
from sb3_stable_ppo import StopTrainingOnReturn


class Episodes(BaseCallback):
    """The returns of all episodes."""

    def __init__(self) -> None:
        super().__init__()
        self.returns: list[float] = []

    def _on_step(self) -> bool:
        self.returns += [info["episode"]["r"] for info in self.locals["infos"] if "episode" in info]
        return True


@pytest.mark.parametrize(
    ("algorithm", "options"),
    [(PPO, {"n_steps": 64, "batch_size": 64, "n_epochs": 4, "learning_rate": 1e-3}), (DQN, {"learning_starts": 50})],
)
def test_training_ends_at_the_first_step_whose_last_episodes_are_good_enough(
    algorithm: Any, options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    model = algorithm("MlpPolicy", make_cartpole(), seed=0, **options)
    stop, episodes = StopTrainingOnReturn(25.0, n_episodes=10, verbose=1), Episodes()
    model.learn(20_000, callback=[episodes, stop])
    assert stop.is_reached
    assert model.num_timesteps < 20_000
    assert fmean(episodes.returns[-10:]) >= 25.0
    earlier = range(10, len(episodes.returns))
    assert all(fmean(episodes.returns[end - 10 : end]) < 25.0 for end in earlier[:-2])  # two envs may end at once
    assert f"at least 25: training ends at step {model.num_timesteps:,}." in capsys.readouterr().out


def test_fewer_episodes_than_asked_for_are_never_good_enough() -> None:
    stop = StopTrainingOnReturn(0.0, n_episodes=10_000)
    model = PPO("MlpPolicy", make_cartpole(), n_steps=64, batch_size=64, n_epochs=1, seed=0).learn(512, callback=stop)
    assert (stop.is_reached, model.num_timesteps) == (False, 512)


def test_a_second_run_counts_its_own_episodes() -> None:
    stop = StopTrainingOnReturn(1.0, n_episodes=3)
    model = PPO("MlpPolicy", make_cartpole(), n_steps=64, batch_size=64, n_epochs=1, seed=0)
    first = model.learn(2_000, callback=stop).num_timesteps
    assert model.learn(2_000, callback=stop).num_timesteps == pytest.approx(first, abs=100)
    assert first > 10


def test_the_number_of_episodes_is_checked() -> None:
    with pytest.raises(ValueError, match="n_episodes must be a whole number of at least 1, not 0"):
        StopTrainingOnReturn(1.0, n_episodes=0)
