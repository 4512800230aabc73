"""A run that is broken off and resumed ends as if nothing had happened, to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3, HerReplayBuffer
from stable_baselines3.common.env_util import make_atari_env, make_vec_env
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.noise import OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack, VecMonitor, VecNormalize

from helpers.masked_env import StrictEnv
from helpers.resumed import Setup, assert_goes_on_exactly
from sb3_stable_ppo.algorithms import StablePPO
from sb3_stable_ppo.envs.action_masks import InfoActionMasks
from sb3_stable_ppo.guards import GuardCallback
from sb3_stable_ppo.health import HealthCallback
from sb3_stable_ppo.interventions import L2Init
from sb3_stable_ppo.schedules import KLAdaptiveLR, LRSchedulerCallback, StepLR

pytestmark = pytest.mark.slow(seconds=1)

ON_POLICY: dict[str, Any] = {"n_steps": 32, "batch_size": 32, "n_epochs": 2, "device": "cpu"}
OFF_POLICY: dict[str, Any] = {"buffer_size": 300, "learning_starts": 40, "batch_size": 16}


def small() -> dict[str, Any]:
    """Anew each time: SB3 adds keys."""
    return {"net_arch": [16]}


def cartpole() -> VecEnv:
    return make_vec_env("CartPole-v1", n_envs=2, seed=3)


def pendulum() -> VecEnv:
    """Episodes of 20 steps, so that logs have something to tell."""
    return make_vec_env("Pendulum-v1", n_envs=2, seed=3, env_kwargs={"max_episode_steps": 20})


def normalized(env: VecEnv) -> VecEnv:
    return VecNormalize(env, gamma=0.98)


class Drawing(gym.Env[np.ndarray, int]):
    """Draws from its own action space, which is the model's too."""

    def __init__(self) -> None:
        self.observation_space = gym.spaces.Box(0.0, 9.0, (2,), np.float32)
        self.action_space = gym.spaces.Discrete(9)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        observation = np.array([self.action_space.sample(), action], np.float32)
        return observation, float(action), self.steps >= 9, False, {}


ON_POLICY_RUNS: dict[str, Setup] = {
    "ppo": Setup(cartpole, lambda env: PPO("MlpPolicy", env, seed=1, policy_kwargs=small(), **ON_POLICY)),
    "ppo without a seed, normalized": Setup(
        lambda: normalized(pendulum()), lambda env: PPO("MlpPolicy", env, policy_kwargs=small(), **ON_POLICY)
    ),
    "ppo with gSDE, normalized": Setup(
        lambda: normalized(pendulum()),
        lambda env: PPO("MlpPolicy", env, seed=1, use_sde=True, sde_sample_freq=7, policy_kwargs=small(), **ON_POLICY),
    ),
    "ppo with gSDE that draws once a rollout": Setup(
        pendulum, lambda env: PPO("MlpPolicy", env, seed=1, use_sde=True, policy_kwargs=small(), **ON_POLICY)
    ),
    "a2c on stacked frames": Setup(
        lambda: VecFrameStack(normalized(cartpole()), 3),
        lambda env: A2C("MlpPolicy", env, seed=1, n_steps=16, policy_kwargs=small(), device="cpu"),
    ),
    "ppo with a schedule of ours": Setup(
        lambda: VecMonitor(DummyVecEnv([lambda: gym.make("Acrobot-v1", max_episode_steps=40)] * 2)),
        lambda env: PPO("MlpPolicy", env, seed=1, policy_kwargs=small(), **ON_POLICY),
        lambda: [LRSchedulerCallback(StepLR(1e-3, step_size=2))],
    ),
    "a2c with gradients that are looked at": Setup(
        cartpole,
        lambda env: A2C("MlpPolicy", env, seed=1, n_steps=16, policy_kwargs=small(), device="cpu"),
        lambda: [GuardCallback(check_every=2)],
    ),
    "maskable": Setup(
        lambda: make_vec_env(lambda: InfoActionMasks(StrictEnv()), n_envs=2, seed=3),
        lambda env: MaskablePPO("MlpPolicy", env, seed=1, policy_kwargs=small(), **ON_POLICY),
    ),
    "recurrent": Setup(
        cartpole,
        lambda env: RecurrentPPO(
            "MlpLstmPolicy", env, seed=1, policy_kwargs={"net_arch": [8], "lstm_hidden_size": 8}, **ON_POLICY
        ),
    ),
    "stable ppo": Setup(
        cartpole,
        lambda env: StablePPO(
            "StableMlpPolicy", env, KLAdaptiveLR(1e-3), seed=1, policy_kwargs={**small(), "lean": False}, **ON_POLICY
        ),
    ),
    "stable ppo, lean, normalized, L2Init": Setup(
        lambda: normalized(cartpole()),
        lambda env: StablePPO("StableMlpPolicy", env, seed=1, policy_kwargs={**small(), "lean": True}, **ON_POLICY),
        lambda: [L2Init(1e-3)],
    ),
    "stable ppo with running statistics": Setup(
        cartpole,
        lambda env: StablePPO(
            "StableMlpPolicy",
            env,
            seed=1,
            policy_kwargs={**small(), "norm": "batch", "norm_input": "running"},
            **ON_POLICY,
        ),
    ),
}


@pytest.mark.parametrize("name", ON_POLICY_RUNS)
def test_an_on_policy_run_goes_on_exactly(name: str, tmp_path: Path) -> None:
    assert_goes_on_exactly(
        ON_POLICY_RUNS[name], tmp_path, total=384, every=128, kill_at=230, seed_all=5, log_interval=1
    )


OFF_POLICY_RUNS: dict[str, Setup] = {
    "dqn": Setup(
        cartpole,
        lambda env: DQN(
            "MlpPolicy",
            env,
            seed=1,
            target_update_interval=30,
            exploration_fraction=0.5,
            policy_kwargs=small(),
            **OFF_POLICY,
        ),
    ),
    "dqn on an env that draws from its action space": Setup(
        lambda: make_vec_env(Drawing, seed=3),
        lambda env: DQN("MlpPolicy", env, seed=1, policy_kwargs=small(), exploration_final_eps=0.5, **OFF_POLICY),
    ),
    "sac, killed in its warm-up": Setup(
        pendulum,
        lambda env: SAC("MlpPolicy", env, seed=1, policy_kwargs=small(), **{**OFF_POLICY, "learning_starts": 150}),
    ),
    "sac with gSDE, normalized": Setup(
        lambda: normalized(pendulum()),
        lambda env: SAC("MlpPolicy", env, use_sde=True, train_freq=4, policy_kwargs=small(), **OFF_POLICY),
    ),
    "td3 with noise that remembers": Setup(
        pendulum,
        lambda env: TD3(
            "MlpPolicy",
            env,
            seed=1,
            action_noise=OrnsteinUhlenbeckActionNoise(np.zeros(1), 0.2 * np.ones(1)),
            policy_kwargs=small(),
            **OFF_POLICY,
        ),
    ),
    "dqn with hindsight": Setup(
        lambda: DummyVecEnv([lambda: BitFlippingEnv(n_bits=6, max_steps=15)]),
        lambda env: DQN(
            "MultiInputPolicy",
            env,
            seed=1,
            replay_buffer_class=HerReplayBuffer,
            policy_kwargs=small(),
            **OFF_POLICY,
        ),
    ),
    "td3 that saves memory, stacked": Setup(
        lambda: VecFrameStack(pendulum(), 2),
        lambda env: TD3(
            "MlpPolicy",
            env,
            seed=1,
            optimize_memory_usage=True,
            replay_buffer_kwargs={"handle_timeout_termination": False},
            policy_kwargs=small(),
            **OFF_POLICY,
        ),
    ),
}


@pytest.mark.parametrize("name", OFF_POLICY_RUNS)
def test_an_off_policy_run_goes_on_exactly(name: str, tmp_path: Path) -> None:
    assert_goes_on_exactly(
        OFF_POLICY_RUNS[name], tmp_path, total=200, every=49, kill_at=138, seed_all=5, log_interval=1
    )


def test_hopper_goes_on_exactly(tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    setup = Setup(
        lambda: normalized(make_vec_env("Hopper-v5", n_envs=2, seed=3)),
        lambda env: PPO("MlpPolicy", env, seed=1, policy_kwargs=small(), **ON_POLICY),
    )
    assert_goes_on_exactly(setup, tmp_path, total=384, every=128, kill_at=230)


def test_ant_goes_on_exactly_although_it_observes_contact_forces(tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    setup = Setup(
        lambda: make_vec_env("Ant-v5", n_envs=1, seed=3, env_kwargs={"max_episode_steps": 50}),
        lambda env: PPO("MlpPolicy", env, seed=1, policy_kwargs=small(), **ON_POLICY),
    )
    assert_goes_on_exactly(setup, tmp_path, total=192, every=64, kill_at=120)


@pytest.mark.slow(seconds=10)
def test_breakout_goes_on_exactly_in_the_middle_of_a_life(tmp_path: Path) -> None:
    def env() -> VecEnv:
        return VecFrameStack(make_atari_env("BreakoutNoFrameskip-v4", n_envs=1, seed=3), 4)

    def model(env: VecEnv) -> PPO:
        return PPO("MlpPolicy", env, seed=1, policy_kwargs=small(), **ON_POLICY)

    assert_goes_on_exactly(Setup(env, model), tmp_path, total=192, every=64, kill_at=120)


def test_a_run_goes_on_with_its_health(tmp_path: Path) -> None:
    def callbacks() -> list[Any]:
        return [HealthCallback(budget=None, rows=16, thorough_rows=32)]

    setup = Setup(cartpole, ON_POLICY_RUNS["stable ppo"].model, callbacks)
    assert_goes_on_exactly(setup, tmp_path, total=384, every=128, kill_at=230)
    unbroken, broken = ((tmp_path / name / "health.jsonl").read_text() for name in ("unbroken", "broken"))
    assert broken == unbroken
    assert len(unbroken.splitlines()) == 6


def test_rollouts_are_counted_on_where_few_are_logged(tmp_path: Path) -> None:
    setup = ON_POLICY_RUNS["ppo"]
    assert_goes_on_exactly(setup, tmp_path, total=768, every=128, kill_at=400, log_interval=3)
