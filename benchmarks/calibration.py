"""
How BatchNorm should come by its first statistics: the first three updates of Pong under stock PPO, three ways.

    python benchmarks/calibration.py --seeds 3     # about 3 minutes on two cores

``rollout`` is what the policies do (all of the first rollout counts), ``first`` takes the first batch alone, ``none``
leaves mean 0 and variance 1. Settings of zoo_configs/stable_ppo_batchnorm.yml. Lines go to results/calibration.jsonl.
"""

from __future__ import annotations

import argparse
from statistics import median
from typing import Any

import torch as th
from stable_baselines3.common.callbacks import BaseCallback

from command import benchmark_parser, markdown, parsed
from pong import SETTINGS, SMOKE, TORCHS_WAY, make_pong
from record import finished, run_missing
from sb3_stable_ppo import StablePongPolicy, StablePPO

NAME, STEPS = "calibration", 4 * 1024
FIGURES = ("norm/first_ratio_error", "train/approx_kl", "train/clip_fraction", "train/value_loss")


class FirstBatchPolicy(StablePongPolicy):
    """Calibrated on the first batch of the first rollout."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        result = super().forward(*args, **kwargs)
        self._calibrates = False
        return result


class UncalibratedPolicy(StablePongPolicy):
    """BatchNorm as it is born."""

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        self._calibrates = False


POLICIES = {"rollout": StablePongPolicy, "first": FirstBatchPolicy, "none": UncalibratedPolicy}


class Updates(BaseCallback):
    """What each update logged, and the spread of the values in each rollout."""

    def __init__(self) -> None:
        super().__init__()
        self.updates: list[dict[str, float]] = []
        self.value_std: list[float] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.value_std.append(float(self.model.rollout_buffer.values.std()))  # type: ignore[attr-defined]

    def _on_rollout_start(self) -> None:
        logged = self.logger.name_to_value
        if FIGURES[0] in logged:
            self.updates.append({name: float(logged[name]) for name in FIGURES})


def run(way: str, seed: int, steps: int = STEPS, n_envs: int = 8) -> dict[str, Any]:
    """Four rollouts, three updates that are read."""
    env = make_pong(seed, n_envs)
    model = StablePPO(POLICIES[way], env, seed=seed, policy_kwargs=TORCHS_WAY, **SETTINGS)
    callback = Updates()
    model.learn(steps, callback=callback)
    env.close()
    return {"updates": callback.updates, "value_std": callback.value_std}


def table() -> str:
    """The table of docs/batchnorm.md: medians over seeds."""
    lines = []
    for way in POLICIES:
        rows = [row for row in finished(NAME) if row["cell"]["way"] == way]
        for update in range(min((len(row["updates"]) for row in rows), default=0)):
            medians = [median(row["updates"][update][figure] for row in rows) for figure in FIGURES]
            lines.append([way, update + 1, *(f"{value:.2g}" if value < 10 else f"{value:,.0f}" for value in medians)])
    return markdown(["statistics", "update", *FIGURES], lines)


def options() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    return parser


def main() -> None:
    args = parsed(options())
    if args.smoke:
        two_rollouts = {**SMOKE, "steps": 2 * SMOKE["steps"]}  # the first update is read as the second begins
        run_missing(NAME, [{"way": "first", "seed": 0, **two_rollouts}], lambda cell: run(**cell))
    elif not args.table:
        th.set_num_threads(2)
        cells = [{"way": way, "seed": seed} for seed in range(args.seeds) for way in POLICIES]
        run_missing(NAME, cells, lambda cell: run(**cell))
    print(table())


if __name__ == "__main__":
    main()
