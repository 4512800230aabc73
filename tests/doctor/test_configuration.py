"""diagnose: each trap of the configuration is named, and only where it is."""

import math
from collections import deque
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.envs.classic_control import CartPoleEnv
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.env_util import make_atari_env, make_vec_env
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import SubprocVecEnv, VecNormalize
from torch import nn

from helpers.diagnosis import names, observations_of
from helpers.envs import make_cartpole, make_pong
from sb3_stable_ppo import StableMlpPolicy, diagnose
from sb3_stable_ppo.doctor.config_rules import check_config
from sb3_stable_ppo.envs import AtariVecEnv


class OwnCNN(BaseFeaturesExtractor):
    """A user's own."""

    def __init__(self, space: Any) -> None:
        super().__init__(space, 8)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(space.shape)), 8), nn.ReLU())

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.net(observations)  # type: ignore[no-any-return]


class Scaled(gym.RewardWrapper[Any, Any]):
    """Rewards a thousand times as large, where SB3's monitor sees them."""

    def reward(self, reward: Any) -> float:
        return 1000.0 * float(reward)


def cartpole(n_envs: int = 2, **options: Any) -> Any:
    policy = options.pop("policy", "MlpPolicy")
    return PPO(policy, make_cartpole(n_envs), **{"n_steps": 32, "batch_size": 32, "seed": 0, **options})


OWN = {"features_extractor_class": OwnCNN}


def normalised(norm_obs: bool) -> PPO:
    env = VecNormalize(make_cartpole(), norm_obs=norm_obs)
    return PPO(StableMlpPolicy, env, n_steps=32, batch_size=32, seed=0, policy_kwargs={"norm_input": "running"})


TRAPS: dict[str, tuple[Any, Any]] = {
    "negative_learning_rate": (
        lambda: cartpole(learning_rate=lambda progress: 1e-3 * progress),
        lambda: cartpole(learning_rate=lambda progress: 1e-3 * max(progress, 0.0)),
    ),
    "vanishing_learning_rate": (
        lambda: cartpole(learning_rate=lambda progress: 1e-3 * max(progress - 0.5, 0.0)),
        lambda: cartpole(learning_rate=lambda progress: 1e-3 * max(progress, 0.1)),
    ),
    "one_sample_minibatch": (lambda: cartpole(1, n_steps=33), lambda: cartpole(1, n_steps=34)),
    "hidden_layers_nobody_asked_for": (
        lambda: cartpole(policy_kwargs=OWN),
        lambda: cartpole(policy_kwargs={**OWN, "net_arch": [64, 64]}),
    ),
    "init_overwritten": (
        lambda: cartpole(policy_kwargs=OWN),
        lambda: cartpole(policy_kwargs={**OWN, "ortho_init": False}),
    ),
    "adam_eps_lost": (
        lambda: cartpole(policy_kwargs={"optimizer_kwargs": {"weight_decay": 1e-4}}),
        lambda: cartpole(policy=StableMlpPolicy, policy_kwargs={"optimizer_kwargs": {"weight_decay": 1e-4}}),
    ),
    "frames_skipped_twice": (
        lambda: PPO("CnnPolicy", make_atari_env("ALE/Pong-v5", 1, seed=0), seed=0),
        lambda: PPO("CnnPolicy", make_atari_env("PongNoFrameskip-v4", 1, seed=0), seed=0),
    ),
    "batch_norm_with_one_env": (
        lambda: cartpole(1, policy=StableMlpPolicy, policy_kwargs={"norm": "batch"}),
        lambda: cartpole(1, policy=StableMlpPolicy, policy_kwargs={"norm": "layer"}),
    ),
    "observations_normalised_twice": (
        lambda: normalised(norm_obs=True),
        lambda: normalised(norm_obs=False),
    ),
    "value_clipping_against_rewards": (
        lambda: cartpole(clip_range_vf=0.2).learn(256),
        lambda: cartpole(clip_range_vf=20.0).learn(256),
    ),
    "large_rewards": (
        lambda: PPO("MlpPolicy", make_vec_env(lambda: Scaled(gym.make("CartPole-v1")), 2, 0), n_steps=64, seed=0).learn(
            256
        ),
        lambda: cartpole().learn(256),
    ),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_each_trap_of_the_configuration_is_named_where_it_is_and_only_there(trap: str) -> None:
    bad, good = (make() for make in TRAPS[trap])
    found = {finding.name: finding for finding in diagnose(bad, observations_of(bad)).findings}
    assert trap in found
    assert found[trap].severity == "warning"
    assert found[trap].evidence
    assert found[trap].remedy
    assert trap not in names(diagnose(good, observations_of(good)))


def test_large_rewards_are_no_trap_where_actor_and_critic_have_networks_of_their_own() -> None:
    model = SAC("MlpPolicy", "Pendulum-v1", buffer_size=100, seed=0)
    model.ep_info_buffer = deque([{"r": -4000.0, "l": 100, "t": 1.0}])
    assert "large_rewards" not in {finding.name for finding in check_config(model)}


@pytest.mark.parametrize("clip", [True, False])
def test_large_scores_of_a_game_are_no_large_rewards_where_their_signs_are_learnt_from(clip: bool) -> None:
    """Monitor keeps raw scores and counts frames, of which a step has four."""
    wrapped = make_atari_env("PongNoFrameskip-v4", 1, seed=0, wrapper_kwargs={"clip_reward": clip})
    for env in (wrapped, AtariVecEnv("PongNoFrameskip-v4", 1, seed=0, clip_reward=clip)):
        model = PPO("CnnPolicy", env, n_steps=16, batch_size=16, seed=0)
        model.ep_info_buffer = deque([{"r": 4000.0, "l": 100, "t": 1.0}])
        found = {finding.name for finding in check_config(model)}
        assert ("large_rewards" in found) is not clip
        env.close()


def test_images_that_are_scaled_already_are_seen_from_the_observations() -> None:
    model = PPO("CnnPolicy", make_pong(), seed=0)
    observations = observations_of(model)
    assert "images_scaled_twice" in names(diagnose(model, (observations > 100).astype(np.uint8)))
    assert "images_scaled_twice" not in names(diagnose(model, observations))


def test_a_model_without_an_env_is_diagnosed() -> None:
    model = cartpole()
    observations = observations_of(model)
    model.env = None
    assert diagnose(model, observations).verdict == "early training"


def test_the_action_space_of_one_choice_is_no_collapse() -> None:
    class Only(gym.Env[Any, Any]):
        observation_space, action_space = spaces.Box(-1, 1, (3,)), spaces.Discrete(1)

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            super().reset(seed=seed)
            return self.observation_space.sample(), {}

        def step(self, action: Any) -> Any:
            return self.observation_space.sample(), 0.0, False, False, {}

    model = PPO("MlpPolicy", Only(), n_steps=32, batch_size=32, seed=0).learn(32)
    assert diagnose(model, observations_of(model)).verdict == "early training"


@pytest.mark.parametrize(("steps", "is_told"), [(64, False), (70, True)])
@pytest.mark.parametrize("schedule", [lambda p: 3e-4 * math.sqrt(p), lambda p: 3e-4 * p**0.5])
def test_a_schedule_that_is_not_defined_below_0_is_named(schedule: Any, steps: int, is_told: bool) -> None:
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=32, batch_size=32, n_epochs=1, learning_rate=schedule)
    model._total_timesteps = steps
    told = [finding.evidence for finding in check_config(model, None) if finding.name == "negative_learning_rate"]
    assert any("not defined in the last rollout" in text for text in told) is is_told


def test_a_model_whose_envs_are_closed_is_diagnosed() -> None:
    env = SubprocVecEnv([CartPoleEnv], start_method="fork")
    model = PPO("MlpPolicy", env, n_steps=32, batch_size=32, n_epochs=1).learn(32)
    env.close()
    rows = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    assert "inactive_layer" not in names(diagnose(model, rows))
