"""Small runs of Pong through the command line, and the envs that they were made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sb3_stable_ppo.cli.app import main
from sb3_stable_ppo.zoo.atari_options import ATARI_WRAPPER
from sb3_stable_ppo.zoo.manager import StableExperimentManager

PONG: dict[str, Any] = {
    "env_wrapper": [ATARI_WRAPPER],
    "frame_stack": 4,
    "policy": "CnnPolicy",
    "n_envs": 2,
    "n_steps": 16,
    "batch_size": 16,
    "n_epochs": 1,
    "n_timesteps": 32,
    "vec_env": "ale",
}


def train_pong(tmp_path: Path, *flags: str, **changes: Any) -> int:
    """Pong for a rollout, through the command line."""
    path = tmp_path / "config.yml"
    path.write_text(yaml.safe_dump({"PongNoFrameskip-v4": {**PONG, **changes}}))
    logs = str(tmp_path / "logs")
    return main(["train", "--env", "PongNoFrameskip-v4", "-conf", str(path), "-f", logs, "--seed", "0", *flags])


def remembered_envs(monkeypatch: pytest.MonkeyPatch) -> dict[bool, Any]:
    """What ``create_envs`` will have made, by whether it is for evaluation."""
    made: dict[bool, Any] = {}
    create = StableExperimentManager.create_envs

    def remember(self: Any, n_envs: int, eval_env: bool = False, no_log: bool = False) -> Any:
        made[eval_env] = create(self, n_envs, eval_env, no_log)
        return made[eval_env]

    monkeypatch.setattr(StableExperimentManager, "create_envs", remember)
    return made
