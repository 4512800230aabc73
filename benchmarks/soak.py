"""
A long run with all callbacks on: does memory grow, and do files, threads, hooks or folders?

    python benchmarks/soak.py --minutes 30

StablePPO plays Pong in four envs with short rollouts, so that the callbacks have most of the work: health figures,
snapshots, repairs, evaluations, checkpoints and logs are far more frequent than in a real run. Each `--every` seconds
the process is looked at. A straight line is fitted to the memory after the first third; the table shows its slope and
the standard error of it. Each run is a line in results/soak.jsonl.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch as th
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.logger import configure

from command import add_cell_flag, benchmark_parser, markdown, parsed, run_in_processes
from record import finished
from sb3_stable_ppo import (
    ActivationSnapshotCallback,
    HealthCallback,
    L2Init,
    ReDo,
    RunCheckpoint,
    StablePPO,
    StopTrainingOnReturn,
)
from sb3_stable_ppo.envs.atari import make_atari_vec_env
from sb3_stable_ppo.probes.learners import learners_of

NAME, GAME = "soak", "PongNoFrameskip-v4"
SMOKE = {"minutes": 0.05, "every": 1.0, "seed": 0}
MODULE_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
OPTIMIZER_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
PARAMETER_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
WARM_UP = 1 / 3
"""The share of the run that the slope leaves out."""


class Watch(BaseCallback):
    """Looks at the process now and then, and ends the run when its time is over."""

    def __init__(self, folder: Path, minutes: float, every: float) -> None:
        super().__init__()
        self.folder, self.seconds, self.every = folder, 60 * minutes, every
        self.samples: list[dict[str, float]] = []
        self.process = psutil.Process()

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass

    def _on_training_start(self) -> None:
        self.start, self.next = time.monotonic(), 0.0

    def _on_rollout_start(self) -> None:
        """Between two updates, when no hook of an update is there."""
        if time.monotonic() - self.start >= self.next:
            self.samples.append(self.look())
            self.next += self.every

    def _on_step(self) -> bool:
        return time.monotonic() - self.start < self.seconds

    def open_files(self) -> int:
        """Windows calls them handles."""
        count: int = getattr(self.process, "num_fds" if hasattr(self.process, "num_fds") else "num_handles")()
        return count

    def look(self) -> dict[str, float]:
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return {
            "seconds": round(time.monotonic() - self.start, 1),
            "steps": self.num_timesteps,
            "rss_mb": round(self.process.memory_info().rss / 2**20, 2),
            "open_files": self.open_files(),
            "threads": self.process.num_threads(),
            "hooks": sum(_hooks(self.model)),
            "tensors": sum(issubclass(type(each), th.Tensor) for each in gc.get_objects()),
            "files": len(files),
            "folder_mb": round(sum(path.stat().st_size for path in files) / 2**20, 3),
        }


def _hooks(model: Any) -> Iterator[int]:
    owners = [
        *((module, MODULE_HOOKS) for module in model.policy.modules()),
        *((parameter, PARAMETER_HOOKS) for parameter in model.policy.parameters()),
        *((learner.optimizer, OPTIMIZER_HOOKS) for learner in learners_of(model)),
    ]
    for owner, names in owners:
        yield from (len(getattr(owner, name, None) or ()) for name in names)


def soak(minutes: float, every: float, seed: int) -> dict[str, Any]:
    """Train with all callbacks on, and return what was seen."""
    warnings.simplefilter("ignore", UserWarning)  # of alarms, and that an emulator in C++ is not saved
    with tempfile.TemporaryDirectory(prefix="soak_") as place:
        folder = Path(place)
        watch = Watch(folder, minutes, every)
        env, evaluation = make_atari_vec_env(GAME, 4, seed), make_atari_vec_env(GAME, 1, seed + 1)
        model = StablePPO("StablePongPolicy", env, n_steps=64, batch_size=64, n_epochs=2, seed=seed)
        model.set_logger(configure(str(folder), ["csv", "json", "tensorboard"]))
        callbacks = [
            watch,
            HealthCallback(every_updates=1, budget=None, folder=folder),
            ActivationSnapshotCallback(1000, folder=folder, max_snapshots=50),
            L2Init(),
            ReDo(when={"every_updates": 10}),
            EvalCallback(evaluation, best_model_save_path=place, eval_freq=2000, n_eval_episodes=1, verbose=0),
            StopTrainingOnReturn(1e9),
            RunCheckpoint(every=2000, folder=folder),
        ]
        model.learn(10**9, callback=callbacks)
        model.logger.close()  # TensorBoard's thread would write a file into the folder while it is removed
    return {"samples": watch.samples, **figures(watch.samples)}


def figures(samples: list[dict[str, float]]) -> dict[str, Any]:
    """What the docs show."""
    end = samples[-1]["seconds"]
    settled = [each for each in samples if each["seconds"] >= WARM_UP * end]
    hours = [each["seconds"] / 3600 for each in settled]
    slope = error = None
    if len(settled) > 4:
        (slope, _), covariance = np.polyfit(hours, [each["rss_mb"] for each in settled], 1, cov=True)
        slope, error = round(float(slope), 2), round(float(covariance[0, 0] ** 0.5), 2)
    names = ("rss_mb", "open_files", "threads", "hooks", "tensors", "files", "folder_mb")
    return {
        "memory_slope_mb_per_hour": slope,
        "standard_error": error,
        **{f"{name}_settled": [settled[0][name], settled[-1][name]] for name in names},
        "steps": samples[-1]["steps"],
    }


def table() -> str:
    """The table of docs/reliability.md."""
    rows = []
    for row in finished(NAME):
        found = figures(row["samples"])

        def pair(name: str, found: dict[str, Any] = found) -> str:
            first, last = found[f"{name}_settled"]
            return f"{first:.4g} → {last:.4g}"

        slope = found["memory_slope_mb_per_hour"]
        rows.append(
            [
                f"{row['cell']['minutes']:g} min",
                f"{found['steps']:,}",
                pair("rss_mb"),
                "-" if slope is None else f"{slope:+.1f} ± {found['standard_error']:.1f} MB/h",
                *(pair(name) for name in ("open_files", "threads", "hooks", "tensors", "files", "folder_mb")),
            ]
        )
    heads = [
        "run",
        "steps",
        "memory, MB",
        "its slope",
        "open files",
        "threads",
        "hooks",
        "tensors",
        "files",
        "folder, MB",
    ]
    return markdown(heads, rows)


def options() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two looks")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    add_cell_flag(parser)
    return parser


def main() -> None:
    args = parsed(options())
    cells: list[dict[str, Any]] = [{"minutes": args.minutes, "every": args.every, "seed": seed} for seed in args.seeds]
    run_in_processes(__file__, NAME, args, [SMOKE] if args.smoke else cells, soak, table)


if __name__ == "__main__":
    main()
