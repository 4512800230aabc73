"""
Runs that are killed again and again: `kill -9` at random moments, resumed each time, compared with the unbroken run.

    python benchmarks/kills.py --kills 50     # resumable; each run is a line

A process trains, with a checkpoint every so many steps, until it is killed at a moment drawn from the seed; the next
process resumes from the newest sound checkpoint, and so on, until so many kills are done and the last process trains to
the end. What is compared with the same run unbroken: all tensors of policy and optimizers, all random
states, VecNormalize's statistics, and progress.csv but for its clock. Each run is a line in results/kills.jsonl.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch as th
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from command import benchmark_parser, markdown, parsed, run_here
from record import finished
from sb3_stable_ppo import RunCheckpoint, StablePPO, UsageError, resume
from sb3_stable_ppo.checkpoints.folder import CHECKPOINTS, newest_checkpoint

NAME = "kills"
CLOCK = ("time/fps", "time/time_elapsed")
READY, PROGRESS, RESULT = "ready", "progress.bin", "result.json"
ON_POLICY: dict[str, Any] = {"n_steps": 64, "batch_size": 64, "n_epochs": 2}
OFF_POLICY: dict[str, Any] = {"buffer_size": 5000, "learning_starts": 200, "batch_size": 32}


class Run(NamedTuple):
    """What is trained; each process builds it anew."""

    env: Callable[[], VecEnv]
    model: Callable[[VecEnv], BaseAlgorithm]
    steps: int
    every: int


def _env(name: str, n_envs: int) -> VecEnv:
    return make_vec_env(name, n_envs, seed=3)


def _small() -> dict[str, Any]:
    return {"net_arch": [32]}


RUNS = {
    "StablePPO, CartPole": Run(
        lambda: _env("CartPole-v1", 4),
        lambda env: StablePPO("StableMlpPolicy", env, seed=1, policy_kwargs=_small(), **ON_POLICY),
        60_000,
        256,
    ),
    "PPO and VecNormalize, Pendulum": Run(
        lambda: VecNormalize(_env("Pendulum-v1", 4), gamma=0.98),
        lambda env: PPO("MlpPolicy", env, seed=1, policy_kwargs=_small(), **ON_POLICY),
        60_000,
        256,
    ),
    "SAC, Pendulum": Run(
        lambda: _env("Pendulum-v1", 1),
        lambda env: SAC("MlpPolicy", env, seed=1, policy_kwargs=_small(), **OFF_POLICY),
        6_000,
        50,
    ),
    "DQN, CartPole": Run(
        lambda: _env("CartPole-v1", 1),
        lambda env: DQN("MlpPolicy", env, seed=1, policy_kwargs=_small(), train_freq=2, **OFF_POLICY),
        24_000,
        100,
    ),
    "smoke": Run(
        lambda: _env("CartPole-v1", 2),
        lambda env: StablePPO("StableMlpPolicy", env, seed=1, policy_kwargs=_small(), **ON_POLICY),
        3_200,
        128,
    ),
}
SMOKE = {"run": "smoke", "kills": 2, "seed": 0}


class Progress(BaseCallback):
    """Tells the step in a file: what is written there outlives the process."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass

    def _on_training_start(self) -> None:
        self.file = os.open(self.path, os.O_WRONLY | os.O_CREAT)

    def _on_step(self) -> bool:
        os.pwrite(self.file, struct.pack("q", self.num_timesteps), 0)
        return True


def train(name: str, folder: Path) -> None:
    """What each process does: begin or resume, train to the end, and leave the hashes of the result."""
    run = RUNS[name]
    print(READY, flush=True)
    callbacks = [Progress(folder / PROGRESS), RunCheckpoint(every=run.every, folder=folder)]
    if next(iter((folder / CHECKPOINTS).glob("[0-9]*")), None):
        model = resume(folder, run.env(), callbacks)
    else:
        model = run.model(run.env())
        model.set_logger(configure(str(folder), ["csv"]))
        model.learn(run.steps, callback=callbacks)
    (folder / RESULT).write_text(json.dumps(hashes(model, folder)))


def hashes(model: BaseAlgorithm, folder: Path) -> dict[str, str]:
    """Of all that two runs have to share at their end."""
    normalized: Any = model.get_vec_normalize_env()  # its statistics are of one array here, not of a Dict
    statistics = None if normalized is None else (normalized.obs_rms.mean, normalized.obs_rms.var, normalized.returns)
    with (folder / "progress.csv").open() as file:
        # SB3 orders new columns as a set happens to be ordered
        rows = [sorted(item for item in row.items() if item[0] not in CLOCK) for row in csv.DictReader(file)]
    return {
        "parameters": _hash(model.get_parameters()),
        "random": _hash(th.load(newest_checkpoint(folder).folder / "state.pt", weights_only=False)["random"]),
        "normalization": _hash(statistics),
        "progress": _hash(rows),
        "steps": str(model.num_timesteps),
    }


def _hash(value: Any) -> str:
    digest = hashlib.sha256()

    def feed(each: Any) -> None:
        if isinstance(each, dict):
            for key in each:
                digest.update(repr(key).encode())
                feed(each[key])
        elif isinstance(each, (list, tuple)):
            for child in each:
                feed(child)
        elif isinstance(each, (th.Tensor, np.ndarray)):
            digest.update(np.asarray(each).tobytes())
        else:
            digest.update(repr(each).encode())

    feed(value)
    return digest.hexdigest()


def kill_again_and_again(run: str, kills: int, seed: int) -> dict[str, Any]:
    """
    The unbroken run, then the broken one.

    :param run: one of ``RUNS``
    :param kills: how many; fewer if the run comes to its end before
    :param seed: of the moments
    :return: what was met, and what was lost
    """
    with tempfile.TemporaryDirectory(prefix="kills_") as place:
        unbroken, broken = Path(place, "unbroken"), Path(place, "broken")
        duration = _train_to_the_end(run, unbroken)
        moments = random.Random(seed)
        found: dict[str, Any] = {"partial": set(), "damaged": 0, "from_nothing": 0, "in_training": 0, "lost": []}
        longest, waited, before = 2.0 * duration / kills, 0.0, 0
        while len(found["lost"]) < kills:
            waited += (moment := moments.uniform(0.0, longest))
            if not _train_and_kill(run, broken, moment):
                break
            done = _look(broken, found)
            left = (RUNS[run].steps - done) / (kills - len(found["lost"]) + 1)
            # the kills that are left spread over the steps that are left, however fast the machine is now
            longest = 2.0 * left * waited / done if done > before else 1.5 * longest
            before = done
        if not (broken / RESULT).is_file():
            _train_to_the_end(run, broken)
        results = [json.loads((folder / RESULT).read_text()) for folder in (unbroken, broken)]
    lost = found["lost"]
    return {
        "kills": len(lost),
        "in_training": found["in_training"],
        "during_writing": len(found["partial"]),
        "damaged": found["damaged"],
        "from_nothing": found["from_nothing"],
        "steps": int(results[0]["steps"]),
        "every": RUNS[run].every,
        "steps_lost": {"all": sum(lost), "most": max(lost, default=0)},
        "equal": results[0] == results[1],
        "different": [name for name in results[0] if results[0][name] != results[1][name]],
    }


def _start(run: str, folder: Path) -> subprocess.Popen[str]:
    """A process that is about to train."""
    folder.mkdir(exist_ok=True)
    (folder / PROGRESS).unlink(missing_ok=True)
    command = [sys.executable, str(Path(__file__).resolve()), "--train", run, str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert process.stdout is not None
    if process.stdout.readline().strip() != READY:
        raise RuntimeError(f"{run}: the process has ended with exit status {process.wait()} before it began.")
    return process


def _train_to_the_end(run: str, folder: Path) -> float:
    """:return: seconds from its begin of training on"""
    process, start = _start(run, folder), time.perf_counter()
    process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{run}: the process has ended with exit status {process.returncode}.")
    return time.perf_counter() - start


def _train_and_kill(run: str, folder: Path, after: float) -> bool:
    """:return: whether it was killed, and has not come to its end before"""
    with _start(run, folder) as process:
        try:
            process.wait(after)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        else:
            if process.returncode != 0:
                raise RuntimeError(f"{run}: the process has ended with exit status {process.returncode}.")
    return process.returncode != 0


def _look(folder: Path, found: dict[str, Any]) -> int:
    """What a kill has left; returns the step from which the run goes on."""
    root, step = folder / CHECKPOINTS, 0
    found["partial"] |= {path.name for path in root.glob(".*.part")}  # with the process' number
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            step = newest_checkpoint(folder).step
        except UsageError:
            found["from_nothing"] += 1
    found["damaged"] += sum("is damaged" in str(each.message) for each in caught)
    path = folder / PROGRESS
    content = path.read_bytes() if path.is_file() else b""
    found["in_training"] += bool(content)  # the others hit a process that was still restoring
    reached = struct.unpack("q", content)[0] if content else 0
    found["lost"].append(max(0, reached - step))
    return step


def table() -> str:
    """The table of docs/reliability.md."""
    rows = []
    for row in finished(NAME):
        lost, every = row["steps_lost"], row["every"]
        rows.append(
            [
                row["cell"]["run"],
                f"{row['steps']:,}",
                row["kills"],
                row["in_training"],
                row["during_writing"],
                row["damaged"],
                f"{lost['all'] / max(row['in_training'], 1):.0f}, at most {lost['most']:,}",
                f"{every:,}",
                "equal" if row["equal"] else f"differs in {', '.join(row['different'])}",
            ]
        )
    heads = [
        "run",
        "steps",
        "kills",
        "in training",
        "while a checkpoint was written",
        "damaged",
        "steps done again",
        "steps from one checkpoint to the next",
        "end",
    ]
    return markdown(heads, rows)


def options() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    names = [name for name in RUNS if name != SMOKE["run"]]
    parser.add_argument("--runs", nargs="+", default=names, choices=names)
    parser.add_argument("--train", nargs=2, metavar=("RUN", "FOLDER"), help="be a process that may be killed")
    return parser


def main() -> None:
    args = parsed(options())
    if args.train:
        train(args.train[0], Path(args.train[1]))
        return
    cells = [{"run": run, "kills": args.kills, "seed": seed} for run in args.runs for seed in args.seeds]
    run_here(NAME, args, [SMOKE] if args.smoke else cells, kill_again_and_again, table)


if __name__ == "__main__":
    main()
