"""Small models of every algorithm that has an optimizer, for the interventions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch as th
from sb3_contrib import QRDQN, TQC, TRPO, MaskablePPO, RecurrentPPO
from sb3_contrib.common.envs import InvalidActionEnvDiscrete
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_stable_ppo import (
    AdamReset,
    ChurnReduction,
    ContinualBackprop,
    FeatureRegularization,
    L2Init,
    ReDo,
    ReGraMa,
    ShrinkPerturb,
    SpectralCap,
    StablePPO,
    WeightClip,
    WeightProjection,
)
from sb3_stable_ppo.interventions.base import Intervention
from sb3_stable_ppo.probes.learners import Learner

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
EACH = {"every_updates": 1}
INTERVENTIONS: dict[str, Callable[[], Intervention]] = {
    "L2Init": L2Init,
    "ShrinkPerturb": ShrinkPerturb,
    "WeightClip": WeightClip,
    "WeightProjection": WeightProjection,
    "SpectralCap": SpectralCap,
    "AdamReset": lambda: AdamReset(when=EACH),
    "ChurnReduction": ChurnReduction,
    "FeatureRegularization": FeatureRegularization,
    "ReDo": lambda: ReDo(tau=0.3, when=EACH, rows=16),
    "ReGraMa": lambda: ReGraMa(threshold=0.3, when=EACH),
    "ContinualBackprop": lambda: ContinualBackprop(replacement_rate=0.1, maturity=1),
}
"""All of them, such that they do something in small runs."""
ON_POLICY = ("PPO", "StablePPO", "A2C", "TRPO", "RecurrentPPO", "MaskablePPO")
STEPS = 80


def weights(model: BaseAlgorithm) -> dict[str, th.Tensor]:
    """A copy of all parameters, by name."""
    return {name: parameter.detach().clone() for name, parameter in model.policy.named_parameters()}


class Note(Intervention):
    """Notes what it is called for."""

    def begin(self) -> None:
        self.stepped: list[str] = []
        self.acted: list[int] = []

    def after_step(self, learner: Learner) -> None:
        assert not th.is_grad_enabled()
        self.stepped.append(learner.name)

    def act(self) -> None:
        assert not th.is_grad_enabled()
        self.acted.append(self.num_timesteps)
