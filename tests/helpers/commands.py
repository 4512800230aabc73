"""``train`` on a small CartPole, from a test."""

from pathlib import Path
from typing import Any

import yaml

from sb3_stable_ppo.cli.app import main

CARTPOLE: dict[str, Any] = {
    "policy": "StableMlpPolicy",
    "n_envs": 2,
    "n_steps": 16,
    "batch_size": 16,
    "n_epochs": 2,
    "n_timesteps": 64,
    "learning_rate": {"schedule": "step", "initial": "1e-3", "step_size": 1},
    "callback": "sb3_stable_ppo.HealthCallback",
}


def write_config(folder: Path, **changes: Any) -> str:
    path = folder / "config.yml"
    path.write_text(yaml.safe_dump({"CartPole-v1": {**CARTPOLE, **changes}}))
    return str(path)


def train(tmp_path: Path, *flags: str, **changes: Any) -> int:
    config = write_config(tmp_path, **changes)
    return main(["train", "--env", "CartPole-v1", "-conf", config, "-f", str(tmp_path / "logs"), "--seed", "0", *flags])


def run_folder(tmp_path: Path, number: int = 1) -> Path:
    return tmp_path / "logs" / "stable_ppo" / f"CartPole-v1_{number}"
