"""
Pong at twenty times the usual learning rate: lr 5e-3, 10 epochs, clip 0.2, where stock PPO's network dies.

    python benchmarks/pong_stress.py     # about 10 minutes on two cores; goes on where it stopped

``stock`` is PPO with CnnPolicy, ``ours`` StablePPO with StablePongPolicy (BatchNorm), all else equal. 16,384 steps, 2
seeds. Health is read on 64 observations of the last rollout. Lines go to results/pong_stress.jsonl.
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import obs_as_tensor

from pong import SETTINGS, make_pong
from record import finished, is_done, record
from sb3_stable_ppo import StablePPO
from sb3_stable_ppo.health.figures import layer_figures
from sb3_stable_ppo.probes.activations import ActivationProbe
from sb3_stable_ppo.probes.rows import strided_observations

NAME = "pong_stress"
STRESS: dict[str, Any] = {**SETTINGS, "learning_rate": 5e-3, "n_epochs": 10, "clip_range": 0.2}
LOGGED = ("train/entropy_loss", "train/approx_kl", "train/explained_variance", "guards/lr_scale", "guards/update_kl")


class Health(BaseCallback):
    """After each rollout, the layers and what the update before logged."""

    def __init__(self) -> None:
        super().__init__()
        self.rollouts: list[dict[str, Any]] = []
        self.logged: dict[str, float] = {}

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        self.logged = {
            name: float(self.logger.name_to_value[name]) for name in LOGGED if name in self.logger.name_to_value
        }

    def _on_rollout_end(self) -> None:
        rows = obs_as_tensor(strided_observations(self.model.rollout_buffer, 64), self.model.device)  # type: ignore[attr-defined]
        probe = ActivationProbe(self.model.policy)
        layers = layer_figures(probe, probe(rows))
        self.rollouts.append({"step": self.num_timesteps, "layers": layers, **self.logged})


def run(algo: str, seed: int, steps: int) -> dict[str, Any]:
    """Train one cell."""
    warnings.simplefilter("ignore")
    algorithm, policy = (StablePPO, "StablePongPolicy") if algo == "ours" else (PPO, "CnnPolicy")
    env = make_pong(seed)
    model, health, error = algorithm(policy, env, seed=seed, **STRESS), Health(), None
    try:
        model.learn(steps, callback=health)
    except ValueError as raised:
        error = f"{type(raised).__name__}: {str(raised).splitlines()[0][:120]}"
    env.close()
    return {
        "rollouts": health.rollouts,
        "error": error,
        "finite": all(bool(th.isfinite(p).all()) for p in model.policy.parameters()),
        "undone_updates": getattr(model, "_undone_updates", 0),
        "dropped_updates": getattr(model, "_dropped_updates", 0),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=16384)
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    for seed in range(args.seeds):
        for algo in ("stock", "ours"):
            cell = {"algo": algo, "seed": seed, "steps": args.steps}
            if not is_done(NAME, cell):
                record(NAME, cell, run(**cell))
    for row in finished(NAME):
        last = row["rollouts"][-1]
        convs = {name: f"{f['live']}/{f['units']}" for name, f in last["layers"].items() if name.startswith("conv")}
        figures = {name: round(last[name], 4) for name in LOGGED if name in last}
        print(
            row["cell"],
            convs,
            figures,
            "undone",
            row["undone_updates"],
            "dropped",
            row["dropped_updates"],
            row["error"],
        )


if __name__ == "__main__":
    main()
