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

from command import benchmark_parser, markdown, parsed
from pong import SETTINGS, SMOKE, TORCHS_WAY, make_pong
from record import finished, run_missing
from sb3_stable_ppo import StablePPO
from sb3_stable_ppo.health.figures import layer_figures
from sb3_stable_ppo.probes import ActivationProbe
from sb3_stable_ppo.probes.rows import strided_observations
from vitals import guard_counts

NAME = "pong_stress"
STRESS: dict[str, Any] = {**SETTINGS, "learning_rate": 5e-3, "n_epochs": 10, "clip_range": 0.2}
CONVS = ("conv1", "conv2", "conv3")
HEADS = {"pi": "actor ", "vf": "critic "}
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


def run(algo: str, seed: int, steps: int, n_envs: int = 8) -> dict[str, Any]:
    """Train one cell."""
    warnings.simplefilter("ignore")
    algorithm, policy, options = (
        (StablePPO, "StablePongPolicy", TORCHS_WAY) if algo == "ours" else (PPO, "CnnPolicy", None)
    )
    env = make_pong(seed, n_envs)
    model, health, error = algorithm(policy, env, seed=seed, policy_kwargs=options, **STRESS), Health(), None
    try:
        model.learn(steps, callback=health)
    except ValueError as raised:
        error = f"{type(raised).__name__}: {str(raised).splitlines()[0][:120]}"
    env.close()
    return {
        "rollouts": health.rollouts,
        "error": error,
        "finite": all(bool(th.isfinite(p).all()) for p in model.policy.parameters()),
        **guard_counts(model),
    }


def table() -> str:
    """The table of docs/guards.md: live units in the last rollout, and what the guards did."""
    lines = []
    for row in sorted(finished(NAME), key=lambda row: (row["cell"]["algo"] == "ours", row["cell"]["seed"])):
        last, ours = row["rollouts"][-1], row["cell"]["algo"] == "ours"
        live = {name: figures["live"] for name, figures in last["layers"].items()}
        convs = [live.pop(name) for name in CONVS]
        hidden = ", ".join(f"{HEADS.get(name.partition('.')[0], '')}{count}" for name, count in live.items())
        guards = (
            [row["undone_updates"], row["dropped_updates"], f"{last['guards/lr_scale']:.2g}"]
            if ours and "guards/lr_scale" in last
            else ["-"] * 3
        )
        explained = last.get("train/explained_variance")
        explained = "-" if explained is None else f"{round(explained, 2) + 0:.2f}"  # no -0.00
        lines.append([row["cell"]["algo"], row["cell"]["seed"], *convs, hidden, explained, *guards])
    heads = ["", "seed", "conv1, of 32", "conv2, of 64", "conv3, of 64", "hidden units, of 512", "explained variance"]
    return markdown([*heads, "undone", "dropped", "scale"], lines)


def options() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--steps", type=int, default=16384)
    parser.add_argument("--seeds", type=int, default=2, help="how many")
    return parser


def main() -> None:
    args = parsed(options())
    cells = [
        {"algo": algo, "seed": seed, "steps": args.steps} for seed in range(args.seeds) for algo in ("stock", "ours")
    ]
    if args.smoke:
        cells = [{"algo": "ours", "seed": 0, **SMOKE}]
    run_missing(NAME, cells if not args.table else (), lambda cell: run(**cell))
    print(table())


if __name__ == "__main__":
    main()
