"""
What interventions cost: training time with each against stock PPO, on small networks and on Pong's; and what
GuardCallback costs SAC.

    python benchmarks/intervention_cost.py --seeds 0     # about 15 minutes on two cores

A model for each intervention, and two of stock, train in one process, a rollout and its update each, in a random order
in each round, so that all meet the same machine. Each model keeps its callback for all rounds. The first round warms
up. After the last there is one more in which somebody listens whether the intervention does anything: if not, there is
an error and no figure. Neither is counted. What the two stock models differ by is what this measurement cannot tell
from nothing. CartPole with SB3's defaults and ``MlpPolicy``; Pong as zoo_configs/stable_ppo.yml has it, uncompiled; SAC
with SB3's defaults, two layers of 256 units, on Pendulum, 500 steps a round.

ReDo and ReGraMa have a threshold of 0.5, so that there is always a unit to be reset, and ContinualBackprop a maturity
of 10 steps, so that it replaces units from the first round on. The others have their defaults. Each cell is a line in
results/intervention_cost.jsonl.
"""

from __future__ import annotations

import argparse
import random
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback

import sb3_stable_ppo as ours
from command import add_cell_flag, benchmark_parser, markdown, parsed, run_in_processes
from overhead import build, compared
from record import finished

NAME = "intervention_cost"


class Entry(NamedTuple):
    """
    :param make: a callback
    :param trace: what it leaves where it does something: ``acted``, ``units`` or ``term`` in what it remembers,
        ``steps``: calls behind a step of the optimizer, ``log``: a figure in SB3's log
    """

    make: Callable[[], BaseCallback | None]
    trace: str


STOCK = {"stock": Entry(lambda: None, ""), "stock again": Entry(lambda: None, "")}
EACH, TENTH = {"every_updates": 1}, {"every_updates": 10}
INTERVENTIONS = {
    "L2Init": Entry(lambda: ours.L2Init(), "steps"),
    "ShrinkPerturb": Entry(lambda: ours.ShrinkPerturb(), "steps"),
    "WeightClip": Entry(lambda: ours.WeightClip(), "steps"),
    "WeightProjection": Entry(lambda: ours.WeightProjection(), "steps"),
    "SpectralCap": Entry(lambda: ours.SpectralCap(), "steps"),
    "AdamReset": Entry(lambda: ours.AdamReset(), "acted"),
    "ChurnReduction": Entry(lambda: ours.ChurnReduction(), "term"),
    "FeatureRegularization": Entry(lambda: ours.FeatureRegularization(), "term"),
    "ReDo, every 10 updates": Entry(lambda: ours.ReDo(0.5, when=TENTH), "acted"),
    "ReDo, each update": Entry(lambda: ours.ReDo(0.5, when=EACH), "acted"),
    "ReGraMa, every 10 updates": Entry(lambda: ours.ReGraMa(0.5, when=TENTH), "acted"),
    "ReGraMa, each update": Entry(lambda: ours.ReGraMa(0.5, when=EACH), "acted"),
    "ContinualBackprop": Entry(lambda: ours.ContinualBackprop(maturity=10), "units"),
}
GUARD = {"GuardCallback": Entry(lambda: ours.GuardCallback(), "log")}
ROUNDS = {"cartpole": 20, "pong, shipped": 10, "sac": 24}
"""Of 10 updates and more, so that what comes every 10 comes."""
HEADS = {
    "cartpole": "CartPole, SB3's defaults",
    "pong, shipped": "Pong as `stable_ppo.yml` has it, uncompiled",
    "sac": "SAC, 256x256, Pendulum",
}
TABLES = (("cartpole", "pong, shipped"), ("sac",))
"""The envs of each."""
SAC_STEPS = 500
SMOKE = {"env": "smoke", "seed": 0, "rounds": 20}


def entries(env: str) -> dict[str, Entry]:
    """What is compared there."""
    return {**STOCK, **(GUARD if env == "sac" else INTERVENTIONS)}


def make_model(env: str, seed: int) -> Any:
    """A model that has not trained yet."""
    return SAC("MlpPolicy", "Pendulum-v1", seed=seed) if env == "sac" else build(env, "ppo", seed)


def train_round(model: Any, callback: BaseCallback | None) -> float:
    """A rollout and its update, or of SAC so many steps; the seconds that it took."""
    steps = SAC_STEPS if isinstance(model, SAC) else model.n_steps * model.n_envs
    start = time.perf_counter()
    model.learn(steps, callback=callback, reset_num_timesteps=model.num_timesteps == 0)
    return time.perf_counter() - start


def traces(entry: Entry, model: Any, callback: Any) -> float:
    """Train for one more round; how much there is of what the callback leaves where it does something."""
    if entry.trace == "steps":
        with mock.patch.object(callback, "after_step", wraps=callback.after_step) as after_step:
            train_round(model, callback)
        return after_step.call_count
    train_round(model, callback)
    if entry.trace == "log":
        return float("guards/skipped_steps" in model.logger.name_to_value)
    found = callback.memory.get(entry.trace, 0)
    return float(sum(found.values()) if isinstance(found, dict) else found)


def time_models(env: str, seed: int, rounds: int) -> dict[str, Any]:
    """
    Train all in turn; the seconds of each round, by intervention.

    :raises RuntimeError: if one of them has done nothing
    """
    compared_ones = entries(env)
    models = {name: make_model(env, seed) for name in compared_ones}
    callbacks = {name: entry.make() for name, entry in compared_ones.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    order, shuffled = list(models), random.Random(seed)
    warnings.simplefilter("ignore", UserWarning)  # of AdamReset and WeightProjection: this is about time
    for _ in range(rounds + 1):
        shuffled.shuffle(order)
        for name in order:
            seconds[name].append(round(train_round(models[name], callbacks[name]), 4))
    found = {}
    for name, entry in compared_ones.items():
        if entry.trace:
            found[name] = round(traces(entry, models[name], callbacks[name]), 6)
            if not found[name] > 0:
                raise RuntimeError(f"{name} has done nothing in {rounds} rounds of {env}: there is nothing to measure.")
    return {"seconds": {name: values[1:] for name, values in seconds.items()}, "traces": found}


def table() -> str:
    """The tables of docs/interventions.md: a row for each intervention, a column for each env."""
    # cells without "rounds" are from an earlier form of this benchmark, in which each round had a new callback
    rows = [row for row in finished(NAME) if "rounds" in row["cell"]] or finished(NAME)
    found = []
    for envs in TABLES:
        shown = {env: own for env in envs if (own := [row["seconds"] for row in rows if row["cell"]["env"] == env])}
        if shown or envs is TABLES[0]:
            found.append(markdown(["", *(HEADS[env] for env in shown)], lines(shown)))
    return "\n\n".join(found)


def lines(shown: dict[str, list[dict[str, list[float]]]]) -> list[list[str]]:
    """
    The rows of a table.

    :param shown: by env, the seconds by intervention of each cell
    """
    names = dict.fromkeys(name for cells in shown.values() for cell in cells for name in cell if name != "stock")
    found = []
    for name in names:
        row = [name]
        for cells in shown.values():
            pairs = [
                np.stack([np.array(cell[name]), np.array(cell["stock"])], axis=1) for cell in cells if name in cell
            ]
            row.append(compared(np.concatenate(pairs)) if pairs else "-")
        found.append(row)
    return found


def options() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--envs", nargs="+", default=list(ROUNDS), choices=list(ROUNDS))
    add_cell_flag(parser)
    return parser


def main() -> None:
    args = parsed(options())
    cells: list[dict[str, Any]] = [
        {"env": env, "seed": seed, "rounds": ROUNDS[env]} for env in args.envs for seed in args.seeds
    ]
    run_in_processes(__file__, NAME, args, [SMOKE] if args.smoke else cells, time_models, table)


if __name__ == "__main__":
    main()
