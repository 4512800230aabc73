"""
What somebody sees who types ``make pong``: the return by the minute, and the layers beside it.

    python benchmarks/make_pong.py --seeds 1 --picture docs/img/make_pong.png   # about 15 minutes on two cores
    python benchmarks/make_pong.py --folder logs/stable_ppo/PongNoFrameskip-v4_1 --picture pong.png
    python benchmarks/make_pong.py --table

The first trains as the Makefile does, in a process of its own, with all cores. The second takes a run that is there.
A line of results/make_pong.jsonl holds every game by the minute, the evaluations, and the live units by layer. The
configuration is part of the cell: a test fails when it is no longer the one that the published run had.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import yaml
from stable_baselines3.common.monitor import load_results

from command import benchmark_parser, markdown, parsed
from record import finished, is_done, record
from sb3_stable_ppo.runs.data import RunData, read_run
from sb3_stable_ppo.runs.folder import RunReader
from sb3_stable_ppo.snapshots.pictures import PALETTE
from sb3_stable_ppo.snapshots.timeline import Timeline, timeline_of
from sb3_stable_ppo.zoo.registry import config_file

NAME, GAME, STEPS, MARK, LAST, PICTURES = "make_pong", "PongNoFrameskip-v4", 500_000, 18, 30, 6
SMOKE_STEPS = 1024


def configuration() -> dict[str, Any]:
    """Pong's entry of ``stable_ppo.yml`` as it is today, without the callbacks, which do not change training."""
    entry: dict[str, Any] = yaml.safe_load(config_file("stable_ppo").read_text())[GAME]
    return {key: value for key, value in entry.items() if key != "callback"}


def train(seed: int, steps: int, logs: str) -> Path:
    """The run that the Makefile's ``pong`` makes. :return: its folder"""
    command = [sys.executable, "-m", "sb3_stable_ppo", "train", "--env", GAME, "--seed", str(seed), "-f", logs]
    subprocess.run([*command, "-n", str(steps), "--stop-at-return", str(MARK)], check=True)
    (folder,) = Path(logs).glob(f"stable_ppo/{GAME}_*")
    return folder


def figures_of(run: RunData) -> dict[str, Any]:
    """What a line holds of a run that has ended."""
    games = load_results(str(run.folder))
    elapsed = run.curves["time/time_elapsed"]
    evaluations = np.load(run.folder / "evaluations.npz") if (run.folder / "evaluations.npz").is_file() else None
    scores = [] if evaluations is None else zip(evaluations["timesteps"], evaluations["results"], strict=True)
    layers = {name: [layer["live"], run.health[-1]["layers"][name]["live"], layer["units"]] for name, layer in
              run.health[0]["layers"].items()}  # fmt: skip
    return {
        "steps": run.facts["num_timesteps"],
        "minutes": round(float(games["t"].max()) / 60, 2) if len(games) else 0.0,
        "games": [[round(t / 60, 2), r] for t, r in zip(games["t"], games["r"], strict=True)],
        "evaluations": [
            [int(step), round(float(np.interp(step, *elapsed)) / 60, 2), round(float(returns.mean()), 1)]
            for step, returns in scores
        ],
        "live": layers,
    }


def first_minute(row: dict[str, Any], mark: float) -> str:
    """When the mean return of the last games first reached a mark."""
    returns = [ret for _, ret in row["games"]]
    for index in range(LAST, len(returns) + 1):
        if mean(returns[index - LAST : index]) >= mark:
            return f"{row['games'][index - 1][0]:.1f}"
    return "-"


def table() -> str:
    """The table of docs/pong.md: a row for each run."""
    lines = []
    for row in finished(NAME):
        live = ", ".join(f"{name} {last}/{units}" for name, (_, last, units) in row["live"].items())
        minutes = [first_minute(row, mark) for mark in (0, 10, MARK)]
        returns = [ret for _, ret in row["games"][-LAST:]]
        last = f"{mean(returns):.1f}" if returns else "-"
        lines.append(
            [row["cell"]["seed"], f"{row['steps']:,}", f"{row['minutes']:.1f}", " / ".join(minutes), last, live]
        )
    heads = [
        "seed",
        "steps",
        "minutes",
        f"last {LAST} games at 0 / 10 / {MARK} by minute",
        f"last {LAST} games at the end",
    ]
    return markdown([*heads, "live units at the end"], lines)


def draw(row: dict[str, Any], timeline: Timeline, path: Path) -> None:
    """The return by the minute, and below it the last convolution at a few of these minutes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.2), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=[3, 2])
    above, below = parts
    draw_returns(above.subplots(), row)
    name, layer = list(timeline.layers.items())[-1]
    chosen = np.linspace(0, len(timeline.steps) - 1, PICTURES).round().astype(int)
    for axes, index in zip(below.subplots(1, PICTURES), chosen, strict=True):
        axes.set_axis_off()
        axes.imshow(PALETTE[layer.frames[index]], interpolation="nearest")
        axes.set_title(f"step {timeline.steps[index]:,}", fontsize=8)
    below.suptitle(f"{name}, the {layer.units} channels of the last convolution", fontsize=9)
    figure.savefig(path, dpi=110)


def draw_returns(axes: Any, row: dict[str, Any]) -> None:
    """Games as dots, the mean of the last ones as a line, evaluations as crosses."""
    minutes, returns = np.array(row["games"]).T
    smooth: Sequence[float] = [returns[max(0, end - LAST) : end].mean() for end in range(1, len(returns) + 1)]
    axes.plot(minutes, returns, ".", color="0.75", markersize=3, label="a game of training")
    axes.plot(minutes, smooth, color="C0", label=f"mean of the last {LAST} games")
    if row["evaluations"]:
        _, at, scores = zip(*row["evaluations"], strict=True)
        axes.plot(at, scores, "x", color="C1", label="evaluation, 5 games without draws")
    axes.axhline(MARK, color="grey", linewidth=0.8, linestyle="--")
    axes.set(xlabel="minutes", ylabel="return", ylim=(-22, 22))
    axes.legend(fontsize=8, loc="upper left")


def take(folder: Path, seed: int, picture: Path | None) -> None:
    """Record a run, and draw it."""
    figures, cell = figures_of(read_run(folder)), {"seed": seed, "configuration": configuration()}
    if not is_done(NAME, cell):
        record(NAME, cell, figures)
    if picture is not None:
        draw(figures, timeline_of(RunReader(folder)), picture)


def options() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1], help="of the runs (default: 1, the Makefile's)")
    parser.add_argument("--folder", type=Path, help="a run that is there, in place of a new one")
    parser.add_argument("--picture", type=Path, help="draw the run, the last of several")
    return parser


def main() -> None:
    args = parsed(options())
    if args.folder:
        take(args.folder, int(json.loads((args.folder / "run.json").read_text())["seed"]), args.picture)
    elif not args.table:
        for seed in args.seeds:
            with tempfile.TemporaryDirectory() as logs:
                take(train(seed, SMOKE_STEPS if args.smoke else STEPS, logs), seed, args.picture)
    print(table())


if __name__ == "__main__":
    main()
