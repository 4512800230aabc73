"""
What the health figures of healthy runs are, by norm: the ranges that the doctor and docs/metrics.md print.

    python benchmarks/healthy_ranges.py     # about 45 minutes on one core; goes on where it stopped
    python benchmarks/healthy_ranges.py --table
    python benchmarks/healthy_ranges.py --write   # the package's ranges, from the lines on record

Our policy with each norm, and SB3's own: Pong with the numbers of zoo_configs/stable_ppo.yml, CartPole and Pendulum
with rl_zoo3's. A line of results/healthy_ranges.jsonl holds what HealthCallback measured thoroughly in the second half
of a run. Runs whose last 100 episodes did not reach the env's floor are on record too, and do not count.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Sequence
from statistics import mean
from typing import Any, NamedTuple

import torch as th

from command import add_cell_flag, benchmark_parser, parsed, run_in_processes
from ranges_of_runs import ENVS_OF, FILE, NAME, NETWORKS, as_json, ranges_table, runs_table
from sb3_stable_ppo import HealthCallback, LRSchedulerCallback, StablePPO
from sb3_stable_ppo.runs.folder import RunReader
from sb3_stable_ppo.schedules.learning_rate import counting_schedule
from suite import SETTINGS, build
from suite_settings import SHIPPED, Settings
from vector_settings import of

STOCK = "stock"
MEASUREMENTS = 80
"""In the whole run, at most: one after each update where there are fewer updates."""
PARTS = ("layers", "gradients", "features", "policy", "update", "weights", "norms", "train")
CONSTANT = ("units", "width", "rows", "inputs")
Tree = dict[str, Any]


class Env(NamedTuple):
    """
    :param steps: of a run
    :param seeds: how many runs
    :param floor: what the last 100 episodes have to be worth in a run that counts. Random play of Pong is worth -20.7
    """

    steps: int
    seeds: int
    floor: float


ENVS = {
    "CartPole-v1": Env(100_000, 3, 400.0),
    "Pendulum-v1": Env(100_000, 3, -300.0),
    "PongNoFrameskip-v4": Env(150_000, 1, -20.4),
}
SMOKE: dict[str, Any] = {"env": "CartPole-v1", "network": "layer", "seed": 0, "steps": 1024}


def settings_of(env: str, network: str) -> Settings:
    """What learns, and with which numbers."""
    if env.startswith("Pong"):
        return SETTINGS["shipped, PPO, CnnPolicy"] if network == STOCK else SHIPPED.changed({"norm": network})
    return of(env, "zoo", None, "PPO") if network == STOCK else of(env, "zoo", {"norm": network}, "StablePPO")


def run(env: str, network: str, seed: int, steps: int) -> dict[str, Any]:
    """Train one cell."""
    th.set_num_threads(1)
    warnings.simplefilter("ignore")
    model, start = build(settings_of(env, network), seed), time.perf_counter()
    counts = counting_schedule(model.learning_rate) is not None and not isinstance(model, StablePPO)
    with tempfile.TemporaryDirectory() as folder:
        health = HealthCallback(every=steps // MEASUREMENTS, budget=None, folder=folder)
        model.learn(steps, callback=[health, *([LRSchedulerCallback()] if counts else [])])
        lines = list(RunReader(folder).health())
    assert model.env is not None
    model.env.close()
    last = [line for line in lines if line["step"] > steps / 2]
    for line in last:
        line["weights"]["norm_growth"] = line["weights"]["norm"] / lines[0]["weights"]["norm"]
    ret = mean(episode["r"] for episode in model.ep_info_buffer or [{"r": float("-inf")}])
    return {
        "return": round(ret, 2),
        "floor": ENVS[env].floor,
        "healthy": ret >= ENVS[env].floor,
        "alarms": sorted({event["name"] for line in lines for event in line["events"] if event["raised"]}),
        "measurements": len(last),
        "figures": joined([{part: line[part] for part in PARTS if part in line} for line in last]),
        "minutes": round((time.perf_counter() - start) / 60, 2),
    }


def joined(lines: Sequence[Tree]) -> Tree:
    """
    >>> joined([{"policy": {"entropy_share": 0.9}}, {"policy": {"entropy_share": 0.81234567}}])
    {'policy': {'entropy_share': [0.9, 0.8123]}}

    :param lines: figures of measurements, nested alike
    :return: the same with all values of a figure in place of one; of what does not change, that alone
    """
    found: Tree = {}
    for name in dict.fromkeys(name for line in lines for name in line):
        values = [line[name] for line in lines if line.get(name) is not None]
        if values and isinstance(values[0], dict):
            found[name] = joined(values)
        elif values and (isinstance(values[0], str) or name in CONSTANT):
            found[name] = values[-1]
        elif values:
            found[name] = [float(f"{value:.4g}") for value in values]
    return found


def table() -> str:
    """The runs, and what their figures were."""
    return "\n\n".join([runs_table(), *(ranges_table(observations) for observations in ENVS_OF)])


def cells(envs: Sequence[str], networks: Sequence[str], seeds: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """All cells, the heavy ones last; of each env so many seeds as it has, if none are given."""
    return [
        {"env": env, "network": network, "seed": seed, "steps": ENVS[env].steps}
        for env in envs
        for seed in seeds or range(1, ENVS[env].seeds + 1)
        for network in networks
    ]


def options() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--envs", nargs="+", default=list(ENVS), choices=list(ENVS))
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--seeds", nargs="+", type=int, help="(default: 1 to 3; of Pong 1)")
    parser.add_argument("--write", action="store_true", help="write the package's ranges from what is on record")
    add_cell_flag(parser)
    return parser


def main() -> None:
    args = parsed(options())
    os.environ["OMP_NUM_THREADS"] = "1"
    chosen = [SMOKE] if args.smoke else cells(args.envs, args.networks, args.seeds)
    if args.write:
        FILE.write_text(as_json())
        args.table = True
    run_in_processes(__file__, NAME, args, chosen, run, table)


if __name__ == "__main__":
    main()
