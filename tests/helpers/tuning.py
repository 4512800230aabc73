"""A small study: its plan, its parameters, its command line."""

import signal
from pathlib import Path
from typing import Any

import yaml

PARAMS: dict[str, Any] = {
    "learning_rate": 2e-3,
    "schedule": "step",
    "n_epochs": 3,
    "clip_range": 0.2,
    "ent_coef": 0.01,
    "one_minus_gamma": 0.02,
    "one_minus_gae_lambda": 0.1,
    "norm": "layer",
    "norm_position": "before",
    "activation": "leaky_relu",
    "negative_slope": 0.05,
    "init_gain": 0.9,
    "max_kl": 0.5,
}


PLAN = {"algo": "stable_ppo", "env": "CartPole-v1", "seeds": (0, 1)}


def config_with(folder: Path, *callbacks: str) -> list[str]:
    entry: dict[str, Any] = {
        "policy": "StableMlpPolicy",
        "policy_kwargs": {"net_arch": [16]},
        "n_envs": 2,
        "n_steps": 32,
        "batch_size": 64,
        "n_timesteps": "1e5",
        "callback": ["sb3_stable_ppo.HealthCallback", *callbacks],
    }
    (folder / "config.yml").write_text(yaml.safe_dump({"CartPole-v1": entry}))
    return ["--conf-file", str(folder / "config.yml")]


def flags(folder: Path, *callbacks: str, steps: int = 512) -> list[str]:
    quick = ["--n-evaluations", "2", "--eval-episodes", "1", "-n", str(steps), "-f", str(folder)]
    return ["tune", "--env", "CartPole-v1", *quick, *config_with(folder, *callbacks)]


def with_ctrl_c() -> None:
    """A shell's background jobs, which the tests may be among, ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
