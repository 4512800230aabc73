"""EnvPool's envs beside Gymnasium's, and what they refuse. What any vec env does is in test_batch_vec_envs.py."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from helpers.envs import play
from sb3_stable_ppo.envs.envpool_vec_env import EnvPoolVecEnv

pytestmark = pytest.mark.slow(seconds=1)


@pytest.mark.parametrize(
    "env_id",
    ["CartPole-v1", "Acrobot-v1", "Pendulum-v1", "Hopper-v5", "HalfCheetah-v5", "LunarLander-v3", "BipedalWalker-v3"],
)
def test_spaces_are_gymnasiums_so_that_a_model_goes_on_in_either(env_id: str, tmp_path: Path) -> None:
    ours, stock = EnvPoolVecEnv(env_id, 2, seed=0), make_vec_env(env_id, 2, seed=0)
    assert ours.action_space == stock.action_space
    assert ours.observation_space == stock.observation_space
    for observation in ours.reset():
        assert ours.observation_space.contains(observation)
    model = PPO("MlpPolicy", ours, n_steps=16, batch_size=16, n_epochs=1).learn(32)
    model.save(tmp_path / "model")
    PPO.load(tmp_path / "model", env=stock).learn(32)
    model.set_env(stock)
    model.set_env(ours)
    model.learn(32)
    ours.close()


def test_an_option_that_changes_the_observations_changes_their_space() -> None:
    env = EnvPoolVecEnv("Hopper-v5", 2, seed=0, exclude_current_positions_from_observation=False)
    assert env.observation_space.shape == (12,)
    assert env.reset().shape == (2, 12)
    env.close()


@pytest.mark.parametrize(("env_id", "steps"), [("CartPole-v1", 2000), ("Hopper-v5", 1500)])
def test_random_actions_earn_what_they_earn_in_gymnasium(env_id: str, steps: int) -> None:
    found = []
    for env in (EnvPoolVecEnv(env_id, 4, seed=0), make_vec_env(env_id, 4, seed=0)):
        episodes = [info["episode"] for *_, infos in play(env, steps) for info in infos if "episode" in info]
        env.close()
        found.append(np.array([(episode["r"], episode["l"]) for episode in episodes]))
    means = np.array([each.mean(axis=0) for each in found])
    errors = np.array([each.std(axis=0) / np.sqrt(len(each)) for each in found])
    assert min(map(len, found)) > 100
    assert np.all(np.abs(means[0] - means[1]) < 3 * np.linalg.norm(errors, axis=0))


@pytest.mark.parametrize("actions", [[2, 0], [-1, 0], [0], [[0, 0]], [0, 1, 1], [0.7, 1.0]])
def test_an_action_that_the_env_does_not_have_is_an_error(actions: Any) -> None:
    env = EnvPoolVecEnv("CartPole-v1", 2, seed=0)
    env.reset()
    with pytest.raises(ValueError, match=r"Actions must be 2 of Discrete\(2\), not"):
        env.step(np.array(actions))
    env.close()


def test_options_of_a_reset_are_an_error_and_none_are_not() -> None:
    env = EnvPoolVecEnv("CartPole-v1", 2, seed=0)
    env.set_options()
    with pytest.raises(ValueError, match=r"take no options at reset\(\), and \{'low': -0.1\} would change nothing"):
        env.set_options({"low": -0.1})
    env.close()


@pytest.mark.parametrize(
    ("env_id", "options", "complaint"),
    [
        ("Hopper-v55", {}, r"EnvPool has no env 'Hopper-v55' of Gymnasium's \(did you mean Hopper-v5\?\)"),
        ("HopperHop-v1", {}, "EnvPool has no env 'HopperHop-v1' of Gymnasium's"),
        ("CartPole-v1", {"batch_size": 2}, r"has no option 'batch_size'.*choose from max_episode_steps"),
        ("CartPole-v1", {"max_steps": 2}, r"has no option 'max_steps' \(did you mean max_episode_steps\?\)"),
        ("CartPole-v1", {"n_envs": 0}, "n_envs must be a whole number of at least 1, not 0"),
        ("CartPole-v1", {"num_threads": -1}, "num_threads must be a whole number of at least 0, not -1"),
    ],
)
def test_a_mistake_is_one_clear_error(env_id: str, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        EnvPoolVecEnv(env_id, **options)


def test_without_envpool_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "envpool", None)
    with pytest.raises(ImportError, match=r"pip install 'sb3-stable-ppo\[envpool\]'"):
        EnvPoolVecEnv("CartPole-v1")
