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

from pong import SETTINGS, make_pong
from record import finished, is_done, record
from sb3_stable_ppo import StablePongPolicy, StablePPO

NAME = "calibration"
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


def run(way: str, seed: int) -> dict[str, Any]:
    """Four rollouts, three updates that are read."""
    env = make_pong(seed)
    model = StablePPO(POLICIES[way], env, seed=seed, **SETTINGS)
    callback = Updates()
    model.learn(4 * 1024, callback=callback)
    env.close()
    return {"updates": callback.updates, "value_std": callback.value_std}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    th.set_num_threads(2)
    for seed in range(args.seeds):
        for way in POLICIES:
            cell = {"way": way, "seed": seed}
            if not is_done(NAME, cell):
                record(NAME, cell, run(**cell))
    print("| statistics | update | " + " | ".join(FIGURES) + " |")
    for way in POLICIES:
        rows = [row for row in finished(NAME) if row["cell"]["way"] == way]
        for update in range(3):
            medians = (median(row["updates"][update][figure] for row in rows) for figure in FIGURES)
            print(f"| {way} | {update + 1} | " + " | ".join(f"{value:.3g}" for value in medians) + " |")


if __name__ == "__main__":
    main()
