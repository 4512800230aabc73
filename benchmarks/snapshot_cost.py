"""
What activation snapshots and health cost: Pong on its fast path, with and without the callbacks in turn.

    python benchmarks/snapshot_cost.py --steps 98304 --pairs 2 --norm layer     # about 10 minutes on two cores

The time spent in each callback is clocked inside the run that pays for it, which resolves far less than a percent; the
steps per second of the pairs stand beside it. Of HealthCallback, ``health_share`` is what its budget counts: time in
the callback and in its hooks while ``train()`` runs. Each finished run is a line in results/snapshot_cost.jsonl.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from command import benchmark_parser, parsed
from pong import FAST_PATH, SETTINGS, SMOKE
from record import finished, run_missing
from sb3_stable_ppo import ActivationSnapshotCallback, HealthCallback, StablePPO
from sb3_stable_ppo.envs.atari import make_atari_vec_env

NAME = "snapshot_cost"


class Clocked(BaseCallback):
    """Adds up the time that another callback takes."""

    def __init__(self, callback: BaseCallback) -> None:
        super().__init__()
        self.callback, self.seconds = callback, 0.0

    def _timed(self, call: Any, *args: Any) -> Any:
        start = time.perf_counter()
        try:
            return call(*args)
        finally:
            self.seconds += time.perf_counter() - start

    def _init_callback(self) -> None:
        self.callback.init_callback(self.model)

    def _on_training_start(self) -> None:
        self._timed(self.callback.on_training_start, self.locals, self.globals)

    def _on_rollout_start(self) -> None:
        self._timed(self.callback.on_rollout_start)

    def _on_step(self) -> bool:
        return bool(self._timed(self.callback.on_step))

    def _on_rollout_end(self) -> None:
        self._timed(self.callback.on_rollout_end)

    def _on_training_end(self) -> None:
        self._timed(self.callback.on_training_end)

    def update_child_locals(self, locals_: dict[str, Any]) -> None:
        self.callback.update_locals(locals_)


def run(steps: int, watched: bool, seed: int, norm: str = "batch", n_envs: int = 8) -> dict[str, float]:
    """Train once; seconds in all and in each callback."""
    env = make_atari_vec_env("PongNoFrameskip-v4", n_envs, seed)
    with tempfile.TemporaryDirectory() as folder:
        model = StablePPO(
            "StablePongPolicy",
            env,
            **SETTINGS,
            **{**FAST_PATH, "policy_kwargs": {**FAST_PATH["policy_kwargs"], "norm": norm}},
            tensorboard_log=folder,
            seed=seed,
        )
        snapshots, watching = Clocked(ActivationSnapshotCallback(1000)), HealthCallback()
        health = Clocked(watching)
        start = time.perf_counter()
        model.learn(steps, callback=[snapshots, health] if watched else None)
        seconds = time.perf_counter() - start
        counted = watching.spent_seconds if watched else 0.0
        disk = sum(file.stat().st_size for file in Path(folder).rglob("snapshots/*.npz"))
    env.close()
    return {
        "seconds": seconds,
        "steps_per_s": steps / seconds,
        "snapshot_share": snapshots.seconds / seconds,
        "health_share": max(counted, health.seconds) / seconds,
        "snapshot_bytes": disk,
    }


def summary(steps: int, norm: str) -> str:
    """
    The figures in docs/run_folder.md: medians, smallest and largest.

    :param steps: of the runs that are summed up
    :param norm: of their policies
    """
    # Cells without "norm" are from earlier forms of this benchmark, in which HealthCallback counted less of its time
    rows = [row for row in finished(NAME) if row["cell"]["steps"] == steps and row["cell"].get("norm") == norm]
    lines = []
    for watched in (False, True):
        speeds = sorted(row["steps_per_s"] for row in rows if row["cell"]["watched"] is watched)
        if speeds:
            lines.append(f"watched={watched}: {median(speeds):.0f} steps/s, {speeds[0]:.0f} to {speeds[-1]:.0f}")
    for share in ("snapshot_share", "health_share"):
        shares = sorted(row[share] for row in rows if row["cell"]["watched"])
        if shares:
            lines.append(f"{share}: {median(shares):.2%}, {shares[0]:.2%} to {shares[-1]:.2%}")
    return "\n".join(lines)


def options() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--steps", type=int, default=32768)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--norm", choices=["batch", "layer"], default="layer")
    return parser


def main() -> None:
    args = parsed(options())
    steps = SMOKE["steps"] if args.smoke else args.steps
    cells = [
        {"steps": steps, "watched": watched, "seed": seed, "norm": args.norm}
        for seed in range(args.pairs)
        for watched in ((False, True) if seed % 2 else (True, False))
    ]
    n_envs = SMOKE["n_envs"] if args.smoke else 8
    run_missing(
        NAME,
        cells[: 1 if args.smoke else None] if not args.table else (),
        lambda cell: run(steps, cell["watched"], cell["seed"], cell["norm"], n_envs),
    )
    print(summary(steps, args.norm))


if __name__ == "__main__":
    main()
