"""
What torch's threads and the emulator's do to each other, and what ``threads.py`` does about it.

    python benchmarks/emulator_threads.py --rounds 3     # about 4 minutes on two cores

Pong on the fast path as ``stable_ppo_batchnorm.yml`` has it; by arrangement the milliseconds that emulator, acting and
the whole rollout of 128 steps take, means over 6 rollouts. Each finished cell is a line in
results/emulator_threads.jsonl.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from statistics import median
from typing import Any
from unittest import mock

from pong import FAST_PATH, SETTINGS
from record import finished, is_done, record
from sb3_stable_ppo import StablePongPolicy, StablePPO
from sb3_stable_ppo.envs import atari
from sb3_stable_ppo.policies import mixin

NAME = "emulator_threads"
PARTS = {
    "giving way": [
        mock.patch.object(atari, "batch_scheduling", nullcontext),
        mock.patch.object(atari, "affinity_offset", return_value=-1),
    ],
    "acting": [mock.patch.object(mixin, "single_threaded_inference", return_value=nullcontext())],
}
"""What has to be replaced for a part of ``threads.py`` to be off."""
ARRANGEMENTS = {"nothing done": (), "giving way": ("giving way",), "giving way, acting": ("giving way", "acting")}
ROLLOUTS = 6


def run(arrangement: str, seed: int) -> dict[str, float]:
    """Train with some parts off; milliseconds a rollout."""
    for part, patches in PARTS.items():
        for patch in patches if part not in ARRANGEMENTS[arrangement] else ():
            patch.start()
    env = atari.make_atari_env("PongNoFrameskip-v4", 8, seed)
    model = StablePPO(StablePongPolicy, env, seed=seed, **SETTINGS, **FAST_PATH)
    model.learn(2048)
    spent: dict[str, float] = {}

    def timed(owner: Any, name: str, what: str) -> None:
        method: Callable[..., Any] = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                spent[what] = spent.get(what, 0.0) + (time.perf_counter() - start) * 1000 / ROLLOUTS

        setattr(owner, name, call)

    timed(env, "step_async", "emulator")
    timed(env, "step_wait", "emulator")
    timed(model.policy, "forward", "acting")
    timed(model, "collect_rollouts", "rollout")
    model.learn(ROLLOUTS * 1024, reset_num_timesteps=False)
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cell", help="run one cell, given as JSON, and print its figures")
    args = parser.parse_args()
    if args.cell:
        print(json.dumps(run(**json.loads(args.cell))))
        return
    for seed in range(args.rounds):
        for arrangement in ARRANGEMENTS:
            cell = {"arrangement": arrangement, "seed": seed}
            if not is_done(NAME, cell):
                command = [sys.executable, __file__, "--cell", json.dumps(cell)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                record(NAME, cell, json.loads(done.stdout.splitlines()[-1]))
    for arrangement in ARRANGEMENTS:
        rows = [row for row in finished(NAME) if row["cell"]["arrangement"] == arrangement]
        for what in ("emulator", "acting", "rollout"):
            values = sorted(row[what] for row in rows)
            print(f"{arrangement}: {what} {median(values):.0f} ms ({values[0]:.0f} to {values[-1]:.0f})")


if __name__ == "__main__":
    main()
