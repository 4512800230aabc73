"""
What torch's threads and the emulator's do to each other, and what ``fast/threads.py`` does about it.

    python benchmarks/emulator_threads.py --rounds 3     # about 4 minutes on two cores

Pong on the fast path as ``stable_ppo_batchnorm.yml`` has it; by arrangement the milliseconds that emulator, acting and
the whole rollout of 128 steps take, means over 6 rollouts. Each finished cell is a line in
results/emulator_threads.jsonl.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import nullcontext
from statistics import median
from typing import Any
from unittest import mock

from command import add_cell_flag, benchmark_parser, markdown, parsed, run_in_processes, with_range
from pong import FAST_PATH, SETTINGS, SMOKE
from record import finished
from sb3_stable_ppo import StablePongPolicy, StablePPO
from sb3_stable_ppo.envs import atari, atari_vec_env
from sb3_stable_ppo.policies import mixin

NAME = "emulator_threads"
PARTS: dict[str, list[Any]] = {
    "giving way": [
        mock.patch.object(atari_vec_env, "batch_scheduling", nullcontext),
        mock.patch.object(atari_vec_env, "affinity_offset", return_value=-1),
    ],
    "acting": [mock.patch.object(mixin, "single_threaded_inference", return_value=nullcontext())],
}
"""What has to be replaced for a part of ``fast/threads.py`` to be off."""
ARRANGEMENTS: dict[str, tuple[str, ...]] = {
    "nothing done": (),
    "giving way": ("giving way",),
    "giving way, acting": ("giving way", "acting"),
}
ROLLOUTS = 6


def run(arrangement: str, seed: int, n_envs: int = 8, rollouts: int = ROLLOUTS) -> dict[str, float]:
    """Train with some parts off; milliseconds a rollout."""
    for part, patches in PARTS.items():
        for patch in patches if part not in ARRANGEMENTS[arrangement] else ():
            patch.start()
    env = atari.make_atari_vec_env("PongNoFrameskip-v4", n_envs, seed)
    model = StablePPO(StablePongPolicy, env, seed=seed, **SETTINGS, **FAST_PATH)
    rollout = model.n_steps * n_envs
    model.learn(2 * rollout)
    spent: dict[str, float] = {}

    def timed(owner: Any, name: str, what: str) -> None:
        method: Callable[..., Any] = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                spent[what] = spent.get(what, 0.0) + (time.perf_counter() - start) * 1000 / rollouts

        setattr(owner, name, call)

    timed(env, "step_async", "emulator")
    timed(env, "step_wait", "emulator")
    timed(model.policy, "forward", "acting")
    timed(model, "collect_rollouts", "rollout")
    model.learn(rollouts * rollout, reset_num_timesteps=False)
    return spent


def table() -> str:
    """The table of docs/fast_path.md: medians over seeds, and their range."""
    lines = []
    for arrangement in ARRANGEMENTS:
        rows = [row for row in finished(NAME) if row["cell"]["arrangement"] == arrangement]
        if rows:
            columns = [[row[what] for row in rows] for what in ("emulator", "acting", "rollout")]
            lines.append([arrangement, *(with_range(values, median(values), ".0f") for values in columns)])
    return markdown(["", "emulator", "acting", "rollout"], lines)


def options() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    add_cell_flag(parser)
    return parser


def main() -> None:
    args = parsed(options())
    if args.smoke:
        cells = [{"arrangement": "nothing done", "seed": 0, "n_envs": SMOKE["n_envs"], "rollouts": 1}]
    else:
        cells = [
            {"arrangement": arrangement, "seed": seed} for seed in range(args.rounds) for arrangement in ARRANGEMENTS
        ]
    run_in_processes(__file__, NAME, args, cells, run, table)


if __name__ == "__main__":
    main()
