"""Run folders for tests of the report, written through ``runs.py`` as training writes them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.logger import TensorBoardOutputFormat

from sb3_stable_ppo.runs.folder import RunWriter

CONVS = {"conv1": (32, 20, 20), "conv2": (64, 9, 9), "conv3": (64, 7, 7)}


def layer(live: int, units: int, **changes: Any) -> dict[str, Any]:
    share = 1 - live / units
    figures = {"units": units, "live": live, "dormant_fraction": share, "fault": "dead", "fault_fraction": share}
    return {**figures, "sparsity": 0.0, "norm": 1.0, **changes}


def health_line(live: float = 1.0, **changes: Any) -> dict[str, Any]:
    layers = {name: layer(round(live * shape[0]), shape[0], srank=5) for name, shape in CONVS.items()}
    features = {"layer": "conv3", "width": 64, "rows": 64, "norm": 2.0, "srank": 5}
    policy = {"action_balance": 0.9, "entropy_share": 0.8, "policy_variance": 0.01}
    return {"layers": layers, "features": features, "policy": policy, "nonfinite": None, "events": [], **changes}


def write_progress(folder: Path, columns: dict[str, Any]) -> None:
    """As SB3's CSV logger does."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "progress.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def write_tensorboard(folder: Path) -> None:
    """As SB3's logger does: two steps of one figure."""
    writer = TensorBoardOutputFormat(str(folder))
    for step in (1, 2):
        writer.write({"train/loss": 0.1}, {"train/loss": ()}, step)
    writer.close()


def write_run(folder: Path, rollouts: int = 40, snapshots: int = 12, dies_at: int | None = None, **facts: Any) -> Path:
    """A whole run: from rollout ``dies_at`` on its convolutions are dark."""
    random = np.random.default_rng(0)
    writer = RunWriter(folder)
    writer.describe(**{"status": "finished", "algo": "stable_ppo", "env": "PongNoFrameskip-v4", "seed": 1, **facts})
    steps = 1024 * np.arange(1, rollouts + 1)
    writer.observation({"observation": random.integers(0, 255, (4, 84, 84), dtype=np.uint8)})
    for index in np.linspace(0, rollouts - 1, snapshots).astype(int):
        size = 0.0 if dies_at is not None and index >= dies_at else 1.0
        maps = {name: size * random.gamma(0.3, 1.0, shape) for name, shape in CONVS.items()}
        writer.snapshot(int(steps[index]), maps)
    for index, step in enumerate(steps):
        dead = dies_at is not None and index >= dies_at
        events = []
        if dead and index == dies_at:
            text = f"100% of the units of conv1 are dead (since step {step:,})"
            events = [{"name": "inactive_layer", "raised": True, "step": int(step), "where": "conv1", "text": text}]
        writer.health(int(step), health_line(0.0 if dead else 0.9, events=events))
    noise = random.normal(0, 0.05, rollouts)
    write_progress(
        folder,
        {
            "time/total_timesteps": steps,
            "rollout/ep_rew_mean": np.linspace(-20, 10, rollouts) + noise,
            "rollout/ep_len_mean": np.linspace(3500, 6000, rollouts),
            "train/approx_kl": 0.004 + 0.001 * noise,
            "train/clip_fraction": 0.1 + noise / 10,
            "train/entropy_loss": -np.linspace(1.79, 0.9, rollouts),
            "train/value_loss": 0.1 + noise / 10,
            "train/loss": 0.05 + noise / 10,
            "train/policy_gradient_loss": -0.002 + noise / 100,
            "train/explained_variance": np.linspace(0, 0.9, rollouts),
            "train/learning_rate": np.full(rollouts, 1e-4),
            "guards/undone_updates": np.arange(rollouts) // 20,
            "guards/lr_scale": np.ones(rollouts),
        },
    )
    return folder


def runs_in(folder: Path) -> list[tuple[int, str]]:
    """Seed and status of each run of a log folder."""
    facts = [json.loads(path.read_text()) for path in folder.glob("stable_ppo/*/run.json")]
    return sorted((fact["seed"], fact["status"]) for fact in facts)
