"""
What checkpoints cost on Pong as shipped: the time and the size of one, and what it adds to a rollout and its update.

    python benchmarks/checkpoint_cost.py --seeds 0 1 2     # about 10 minutes on two cores

One model trains. Of each two rounds (a rollout and its update), one begins with a checkpoint, by lot the first or the
second, so that both kinds meet the same machine and the same games; the first pair warms up and is not counted. Each
checkpoint is clocked by itself too: the rounds also tell what it slows down afterwards, such as the disk. Pong as
zoo_configs/stable_ppo.yml has it, uncompiled, with the callbacks and logs of the command line; the evaluation among
them is saved with each checkpoint and does not evaluate. The run folder is in the folder of results, so that
checkpoints are synced to a disk. Each seed is a line in results/checkpoint_cost.jsonl.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.logger import configure

from command import add_cell_flag, benchmark_parser, markdown, parsed, run_in_processes, with_range
from overhead import build
from pong import make_pong
from record import finished, folder
from sb3_stable_ppo import ActivationSnapshotCallback, HealthCallback, RunCheckpoint
from sb3_stable_ppo.checkpoints.callback import DEFAULT_MINUTES
from sb3_stable_ppo.checkpoints.folder import CHECKPOINTS

NAME, NEVER = "checkpoint_cost", 10**12
HEADS = {"pong, shipped": "Pong as `stable_ppo.yml` has it, uncompiled"}
SMOKE = {"env": "smoke", "seed": 0, "pairs": 2}
"""CartPole with rollouts of 64 steps."""


class ClockedCheckpoint(RunCheckpoint):
    """Writes when it is asked to, and tells the seconds and the megabytes of each checkpoint."""

    def __init__(self, run_folder: Path) -> None:
        super().__init__(every=NEVER, folder=run_folder)
        self.seconds: list[float] = []
        self.megabytes: list[float] = []
        self.announce = lambda _: None  # that games in C++ are not saved

    def save(self, is_end: bool = False) -> None:
        if is_end:
            return
        start = time.perf_counter()
        super().save()
        self.seconds.append(round(time.perf_counter() - start, 4))
        written = Path(str(self.folder), CHECKPOINTS, f"{self.model.num_timesteps:012d}")
        size = sum(path.stat().st_size for path in written.rglob("*") if path.is_file())
        if not size:
            raise RuntimeError(f"The checkpoint at step {self.model.num_timesteps:,} could not be written.")
        self.megabytes.append(round(size / 2**20, 2))


class Turns(BaseCallback):
    """
    Asks for a checkpoint at the begin of one of each two rounds, and clocks the rounds. The first of the callbacks.

    :param checkpoint: that is asked
    :param seed: of the lots
    """

    def __init__(self, checkpoint: RunCheckpoint, seed: int) -> None:
        super().__init__()
        self.checkpoint, self.lots = checkpoint, random.Random(seed)
        self.seconds: dict[bool, list[float]] = {True: [], False: []}
        self.turns: list[bool] = []
        self.began: float | None = None

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass

    def _on_rollout_start(self) -> None:
        now = time.perf_counter()
        if self.began is not None:
            self.seconds[self.turns.pop()].append(round(now - self.began, 4))
        if not self.turns:
            self.turns = [True, False]
            self.lots.shuffle(self.turns)
        if self.turns[-1]:
            self.checkpoint.request()
        self.began = now

    def _on_step(self) -> bool:
        return True


def measure(env: str, seed: int, pairs: int) -> dict[str, Any]:
    """
    Train with a checkpoint in every second round.

    :param env: ``pong, shipped`` or ``smoke``
    :param seed: of the model and of the lots
    :param pairs: of rounds, beside the first pair
    :return: the seconds of each round by kind, and the seconds and megabytes of each checkpoint
    """
    model = build(env, "stable_ppo", seed)
    folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{NAME}_", dir=folder()) as place:
        model.set_logger(configure(place, ["csv", "tensorboard"]))
        checkpoint = ClockedCheckpoint(Path(place))
        turns = Turns(checkpoint, seed)
        others: list[BaseCallback] = [HealthCallback()]
        if env != "smoke":
            others += [ActivationSnapshotCallback(1000), EvalCallback(make_pong(seed, 1), eval_freq=NEVER, verbose=0)]
        rounds = 2 * (pairs + 1) + 1  # the last ends without a next one that would tell its end
        model.learn(rounds * model.n_steps * model.n_envs, callback=[turns, *others, checkpoint])
        model.logger.close()
    return {
        "seconds": {name: turns.seconds[kind][1:] for name, kind in (("with", True), ("without", False))},
        "checkpoint_s": checkpoint.seconds[1 : pairs + 1],
        "checkpoint_mb": checkpoint.megabytes[1 : pairs + 1],
    }


def added(rounds: np.ndarray) -> tuple[float, float, float]:
    """
    The seconds that a checkpoint adds to a round: the median over the pairs, with a 95% interval over resampled ones.

    :param rounds: seconds, shape (pairs, 2): with a checkpoint and without
    """
    differences = rounds[:, 0] - rounds[:, 1]
    drawn = np.random.default_rng(0).integers(len(differences), size=(4000, len(differences)))
    low, high = np.percentile(np.median(differences[drawn], axis=1), [2.5, 97.5])
    return float(np.median(differences)), float(low), float(high)


def share(seconds: float) -> str:
    """Of the training time, where there is a checkpoint in each interval of the default length."""
    return f"{seconds / (60 * DEFAULT_MINUTES):.3%}"


def table() -> str:
    """The table of docs/reliability.md, all seeds together."""
    rows: list[Sequence[Any]] = []
    found = finished(NAME)
    for env in dict.fromkeys(row["cell"]["env"] for row in found):
        own = [row for row in found if row["cell"]["env"] == env]
        seconds, megabytes = (np.concatenate([row[name] for row in own]) for name in ("checkpoint_s", "checkpoint_mb"))
        rounds = np.concatenate([np.stack([row["seconds"][kind] for kind in ("with", "without")], 1) for row in own])
        middle, low, high = added(rounds)
        one = float(np.median(seconds))
        rows.append(
            [
                HEADS.get(env, env),
                len(rounds),
                with_range(list(seconds), one, ".3f"),
                f"{np.median(megabytes):.1f}",
                share(one),
                f"{np.median(rounds[:, 1]):.2f}",
                f"{middle:+.3f} ({low:+.3f} to {high:+.3f})",
                f"{share(middle)} ({share(low)} to {share(high)})",
            ]
        )
    every = f"one in {DEFAULT_MINUTES:g} minutes"
    heads = [
        "",
        "checkpoints",
        "one takes, s",
        "MB",
        every,
        "a round without, s",
        "it adds to a round, s",
        f"{every}, by what it adds",
    ]
    return markdown(heads, rows)


def options() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--pairs", type=int, default=40, help="of rounds, one with a checkpoint and one without")
    add_cell_flag(parser)
    return parser


def main() -> None:
    args = parsed(options())
    cells: list[dict[str, Any]] = [{"env": "pong, shipped", "seed": seed, "pairs": args.pairs} for seed in args.seeds]
    run_in_processes(__file__, NAME, args, [SMOKE] if args.smoke else cells, measure, table)


if __name__ == "__main__":
    main()
