"""The settings that the suite compares, by name: what learns, and with which numbers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from sb3_stable_ppo import KLAdaptiveLR, LinearLR, TorchRolloutBuffer

NUMBERS: dict[str, Any] = {
    "learning_rate": 2.5e-4,
    "n_steps": 128,
    "batch_size": 256,
    "n_epochs": 4,
    "clip_range": 0.1,
    "ent_coef": 0.01,
    "vf_coef": 0.5,
}
BUFFER: dict[str, Any] = {
    "rollout_buffer_class": TorchRolloutBuffer,
    "rollout_buffer_kwargs": {"memory_format": "channels_last"},
}
FAST: dict[str, Any] = {
    "memory_format": "channels_last",
    "precision": "auto",
    "compile": "auto",
    "optimizer_kwargs": {"fused": True},
}


class WholeRollout(TorchRolloutBuffer):
    """Advantages normalised over the rollout, not over each minibatch."""

    def compute_returns_and_advantage(self, *args: Any, **kwargs: Any) -> None:
        super().compute_returns_and_advantage(*args, **kwargs)
        self.advantages = (self.advantages - self.advantages.mean()) / (self.advantages.std() + 1e-8)


@dataclass(frozen=True)
class Settings:
    """
    :param env_id: of the environment
    :param algorithm: ``StablePPO`` or ``PPO``
    :param policy: one of ours, or one of the names that SB3 knows
    :param env: ``ale`` (ALE's vector env), ``sb3`` (SB3's own wrappers of Atari), ``vector`` (no Atari) or
        ``normalized`` (the same in a VecNormalize)
    :param n_envs: games at a time
    :param policy_kwargs: of the policy
    :param options: further arguments of the algorithm
    :param bins: a run's returns are recorded as means over so many parts of it; 0: game by game
    """

    env_id: str = "PongNoFrameskip-v4"
    algorithm: str = "StablePPO"
    policy: str = "StablePongPolicy"
    env: str = "ale"
    n_envs: int = 8
    policy_kwargs: dict[str, Any] = field(default_factory=lambda: {**FAST, "norm": "batch"})
    options: dict[str, Any] = field(default_factory=lambda: {**NUMBERS, **BUFFER})
    bins: int = 0

    def changed(self, policy_kwargs: dict[str, Any] | None = None, **options: Any) -> Settings:
        """The same but for some options."""
        return replace(
            self,
            policy_kwargs={**self.policy_kwargs, **(policy_kwargs or {})},
            options={**self.options, **options},
        )


BATCH = Settings()
ADAPTIVE: dict[str, Any] = {"learning_rate": KLAdaptiveLR(2.5e-4)}
SMALL: dict[str, Any] = {"batch_size": 64, **ADAPTIVE}
INPUT: dict[str, Any] = {"norm_input": "running"}
FASTER: dict[str, Any] = {**SMALL, "learning_rate": KLAdaptiveLR(2.5e-4, target=0.02)}
"""Each update moves the policy twice as far."""
GREEDY: dict[str, Any] = {**FASTER, "ent_coef": 0.003}
SHIPPED = BATCH.changed({"norm": "layer", **INPUT}, **GREEDY)
"""As ``zoo_configs/stable_ppo.yml`` has it for Pong."""
# SB3's defaults but for the discount, which Pendulum needs below 0.99 (rl_zoo3 has 0.9)
PENDULUM = Settings(
    "Pendulum-v1",
    policy="StableMlpPolicy",
    env="vector",
    n_envs=4,
    policy_kwargs={},
    options={"n_steps": 512, "gamma": 0.95},
)
SHIPPED_NAME = "layer, input, minibatch 64, KL target 0.02, ent_coef 0.003"
CONTROLS = (
    "shipped, PPO",
    "shipped, PPO, CnnPolicy",
    "stock",
    "batch, input, minibatch 64, KL target 0.02, ent_coef 0.003",
    "batch, torch's way, input, minibatch 64, KL target 0.02, ent_coef 0.003",
)
"""What each part of the shipped settings contributes: guards, the policy, the numbers, the norm and its statistics."""
SETTINGS: dict[str, Settings] = {
    "batch": BATCH,
    "batch, torch's way": BATCH.changed({"norm_statistics": "batch"}),
    "batch, minibatch 64": BATCH.changed(batch_size=64),
    "batch, KL-adaptive": BATCH.changed(**ADAPTIVE),
    "batch, minibatch 64, KL-adaptive": BATCH.changed(**SMALL),
    "batch, hidden layer": BATCH.changed({"norm_hidden": "layer"}),
    "batch, hidden layer, KL-adaptive": BATCH.changed({"norm_hidden": "layer"}, **ADAPTIVE),
    "batch, momentum 0.02": BATCH.changed({"norm_momentum": 0.02}),
    "batch, momentum 0.2": BATCH.changed({"norm_momentum": 0.2}),
    "batch, rate 1e-4": BATCH.changed(learning_rate=1e-4),
    "batch, target_kl 0.02": BATCH.changed(target_kl=0.02),
    "batch before": BATCH.changed({"norm_position": "before"}),
    "batch before, hidden layer": BATCH.changed({"norm_position": "before", "norm_hidden": "layer"}),
    "batch before, minibatch 64": BATCH.changed({"norm_position": "before"}, batch_size=64),
    "batch, input": BATCH.changed(INPUT),
    "batch, input, KL-adaptive": BATCH.changed(INPUT, **ADAPTIVE),
    "batch, input, minibatch 64, KL-adaptive": BATCH.changed(INPUT, **SMALL),
    "batch, input, hidden layer, minibatch 64, KL-adaptive": BATCH.changed({**INPUT, "norm_hidden": "layer"}, **SMALL),
    "layer": BATCH.changed({"norm": "layer"}),
    "layer, minibatch 64": BATCH.changed({"norm": "layer"}, batch_size=64),
    "layer, minibatch 64, KL-adaptive": BATCH.changed({"norm": "layer"}, **SMALL),
    "layer, input, minibatch 64, KL-adaptive": BATCH.changed({"norm": "layer", **INPUT}, **SMALL),
    "layer, input, minibatch 64, KL target 0.02": BATCH.changed({"norm": "layer", **INPUT}, **FASTER),
    "batch, input, minibatch 64, KL target 0.02": BATCH.changed(INPUT, **FASTER),
    "batch, input, minibatch 64, KL target 0.02, ent_coef 0.003": BATCH.changed(INPUT, **GREEDY),
    SHIPPED_NAME: SHIPPED,
    "shipped, KL target 0.03": SHIPPED.changed(learning_rate=KLAdaptiveLR(2.5e-4, target=0.03)),
    "shipped, rate 5e-4": SHIPPED.changed(learning_rate=KLAdaptiveLR(5e-4, target=0.02)),
    "shipped, ent_coef 0.001": SHIPPED.changed(ent_coef=0.001),
    "shipped, advantages of the rollout": SHIPPED.changed(rollout_buffer_class=WholeRollout, normalize_advantage=False),
    "shipped, gae_lambda 0.9": SHIPPED.changed(gae_lambda=0.9),
    "shipped, gae_lambda 0.98": SHIPPED.changed(gae_lambda=0.98),
    "shipped, 16 envs": replace(SHIPPED, n_envs=16),
    "shipped, 16 envs, gae_lambda 0.98": replace(SHIPPED.changed(gae_lambda=0.98), n_envs=16),
    "shipped, hidden layer": SHIPPED.changed({"norm_hidden": "layer"}),
    # what each part of the shipped settings contributes
    "batch, torch's way, input, minibatch 64, KL target 0.02, ent_coef 0.003": BATCH.changed(
        {**INPUT, "norm_statistics": "batch"}, **GREEDY
    ),
    "shipped, PPO": replace(SHIPPED, algorithm="PPO"),
    "shipped, PPO, CnnPolicy": Settings(
        algorithm="PPO", policy="CnnPolicy", policy_kwargs={}, options={**NUMBERS, **GREEDY}
    ),
    "stock": Settings(
        algorithm="PPO",
        policy="CnnPolicy",
        env="sb3",
        policy_kwargs={},
        # as rl_zoo3 has it: ten million steps down to nothing
        options={**NUMBERS, "learning_rate": LinearLR(2.5e-4, total=9_766), "clip_range": 0.1},
    ),
    "Pendulum": PENDULUM,
    "Pendulum, norm_input": PENDULUM.changed(INPUT),
    "Pendulum, norm_value": PENDULUM.changed({"norm_value": "running"}),
    "Pendulum, both": PENDULUM.changed({**INPUT, "norm_value": "running"}),
    "Pendulum, VecNormalize": replace(PENDULUM, env="normalized"),
}
