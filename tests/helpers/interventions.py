"""Small models of every algorithm that has an optimizer, for the interventions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch as th
from sb3_contrib import QRDQN, TQC, TRPO, MaskablePPO, RecurrentPPO
from sb3_contrib.common.envs import InvalidActionEnvDiscrete
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_stable_ppo import StablePPO

ON: dict[str, Any] = {"n_steps": 32, "seed": 0}
MINIBATCHES: dict[str, Any] = {"batch_size": 16, "n_epochs": 2, **ON}
OFF: dict[str, Any] = {"learning_starts": 16, "batch_size": 16, "buffer_size": 200, "seed": 0}


def net(**options: Any) -> dict[str, Any]:
    """Two hidden layers of 16 units; a new dict each time, since SB3 writes into the one that it is given."""
    return {"policy_kwargs": {"net_arch": [16, 16], **options}}


MODELS: dict[str, Callable[[], BaseAlgorithm]] = {
    "PPO": lambda: PPO("MlpPolicy", "CartPole-v1", **MINIBATCHES, **net()),
    "StablePPO": lambda: StablePPO("StableMlpPolicy", "CartPole-v1", **MINIBATCHES, **net()),
    "A2C": lambda: A2C("MlpPolicy", "CartPole-v1", **ON, **net()),
    "TRPO": lambda: TRPO("MlpPolicy", "CartPole-v1", batch_size=16, **ON, **net()),
    "RecurrentPPO": lambda: RecurrentPPO("MlpLstmPolicy", "CartPole-v1", **MINIBATCHES, **net()),
    "MaskablePPO": lambda: MaskablePPO("MlpPolicy", InvalidActionEnvDiscrete(4, 2), **MINIBATCHES, **net()),
    "DQN": lambda: DQN("MlpPolicy", "CartPole-v1", target_update_interval=20, **OFF, **net()),
    "QRDQN": lambda: QRDQN("MlpPolicy", "CartPole-v1", target_update_interval=20, **OFF, **net()),
    "SAC": lambda: SAC("MlpPolicy", "Pendulum-v1", **OFF, **net()),
    "TD3": lambda: TD3("MlpPolicy", "Pendulum-v1", **OFF, **net()),
    "TQC": lambda: TQC("MlpPolicy", "Pendulum-v1", **OFF, **net()),
}
ON_POLICY = ("PPO", "StablePPO", "A2C", "TRPO", "RecurrentPPO", "MaskablePPO")
STEPS = 80


def weights(model: BaseAlgorithm) -> dict[str, th.Tensor]:
    """A copy of all parameters, by name."""
    return {name: parameter.detach().clone() for name, parameter in model.policy.named_parameters()}
