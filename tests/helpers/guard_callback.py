"""Algorithms of every kind under a GuardCallback, an env with faults, and what breaks weights and gradients."""

import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from sb3_contrib import QRDQN, TQC, CrossQ
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from helpers.interventions import OFF, net
from sb3_stable_ppo.common.tensors import all_finite
from sb3_stable_ppo.guards.callback import GuardCallback
from sb3_stable_ppo.guards.last_good import LastGood, named_tensors

ON: dict[str, Any] = {"n_steps": 16, "seed": 0}

ALGORITHMS: dict[str, tuple[Any, dict[str, Any]]] = {
    "SAC": (SAC, OFF),
    "TD3": (TD3, OFF),
    "DDPG": (DDPG, OFF),
    "TQC": (TQC, OFF),
    "CrossQ": (CrossQ, OFF),
    "DQN": (DQN, {"train_freq": 1, "target_update_interval": 20, **OFF}),
    "QRDQN": (QRDQN, {"train_freq": 1, "target_update_interval": 20, **OFF}),
    "A2C": (A2C, ON),
    "PPO": (PPO, {"batch_size": 8, "n_epochs": 2, **ON}),
}

STEPS = 96


class Sensor(gym.Env[np.ndarray, Any]):
    """Episodes of so many steps; at chosen steps, counted over all episodes, a reading or the reward is not finite."""

    observation_space = spaces.Box(-1, 1, (3,), np.float32)

    def __init__(
        self, discrete: bool, nan_at: tuple[int, ...] = (), inf_at: tuple[int, ...] = (), length: int = 10
    ) -> None:
        self.action_space = spaces.Discrete(2) if discrete else spaces.Box(-1, 1, (1,), np.float32)
        self.nan_at, self.inf_at, self.length, self.t = nan_at, inf_at, length, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        observation, reward = self._observe(), float(np.sum(action))
        observation[1] = np.nan if self.t in self.nan_at else observation[1]
        return observation, np.inf if self.t in self.inf_at else reward, self.t % self.length == 0, False, {}

    def _observe(self) -> np.ndarray:
        return self.np_random.uniform(-1, 1, 3).astype(np.float32)


def make(name: str, normalise: bool = False, **faults: Any) -> Any:
    cls, options = ALGORITHMS[name]
    env: Any = DummyVecEnv([lambda: Sensor(name in ("DQN", "QRDQN", "A2C", "PPO"), **faults)])
    return cls("MlpPolicy", VecNormalize(env) if normalise else env, **options, **net())


def quiet(model: Any, guard: GuardCallback, *others: BaseCallback, steps: int = STEPS, **options: Any) -> Any:
    """Train; the warnings are no part of the claim."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.learn(steps, callback=[guard, *others], **options)


def counts(guard: GuardCallback) -> dict[str, int]:
    names = ("skipped_steps", "restored", "nonfinite_rewards", "nonfinite_observations")
    return {name: getattr(guard, name) for name in names if getattr(guard, name)}


def is_finite(model: Any) -> bool:
    tensors = [tensor for _, tensor in named_tensors(model.get_parameters())]
    return all_finite(tensors) and (getattr(model, "log_ent_coef", None) is None or all_finite([model.log_ent_coef]))


def optimizers(model: Any) -> dict[str, th.optim.Optimizer]:
    return LastGood(model).optimizers


def assert_given_back(model: Any) -> None:
    env = model.env
    while env is not None:
        assert "step_wait" not in env.__dict__
        env = getattr(env, "venv", None)
    assert not any(optimizer._optimizer_step_pre_hooks for optimizer in optimizers(model).values())


class When(BaseCallback):
    """Does something at one step, in the middle of a rollout."""

    def __init__(self, step: int, what: Callable[[Any], Any]) -> None:
        super().__init__()
        self.step, self.what = step, what

    def _on_step(self) -> bool:
        if self.num_timesteps == self.step:
            self.what(self.model)
        return True


def nan_gradients(model: Any, optimizer: str, *at: int) -> None:
    """Make a gradient NaN at some steps of an optimizer, counted from 1. Hooks run in the order of registration."""
    seen = [0]

    def spoil(each: th.optim.Optimizer, *_: Any) -> None:
        seen[0] += 1
        if seen[0] in at or not at:
            each.param_groups[0]["params"][0].grad.view(-1)[0] = th.nan

    optimizers(model)[optimizer].register_step_pre_hook(spoil)


def nan_weights(model: Any, optimizer: str, at: int, tensor: Any = None) -> None:
    """Make a weight NaN behind one step of an optimizer, counted from 1."""
    seen = [0]

    def spoil(each: th.optim.Optimizer, *_: Any) -> None:
        seen[0] += 1
        if seen[0] == at:
            with th.no_grad():
                (each.param_groups[0]["params"][0] if tensor is None else tensor).view(-1)[0] = th.nan

    optimizers(model)[optimizer].register_step_post_hook(spoil)


FIRST = {"A2C": "policy.optimizer", "PPO": "policy.optimizer", "DQN": "policy.optimizer", "QRDQN": "policy.optimizer"}


def assert_given_back_but_for(model: Any, hooks: int) -> None:
    assert sum(len(each._optimizer_step_pre_hooks) for each in optimizers(model).values()) == hooks
    assert "step_wait" not in model.env.__dict__


def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt
