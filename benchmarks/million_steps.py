"""
The tables of runs of a million steps of Pong: of the shipped settings, and of four that were recorded before
``suite.py`` was there.
"""

from __future__ import annotations

import math

import numpy as np

from command import markdown
from record import finished
from suite import GAME, first_at, mean_return, runs_of
from suite_settings import SHIPPED_NAME
from suite_watch import MARK

STEPS, MARKS = 1_000_000, (250_000, 500_000, 750_000, 1_000_000)
NAME, BIN = "long_pong", 50_000
RUNS, CONVS = ("layer", "batch", "fast", "stock"), ("conv1", "conv2", "conv3")


def million_steps_table() -> str:
    """A row for each run."""
    lines = []
    for row in sorted(finished(NAME), key=lambda row: RUNS.index(row["cell"]["run"])):
        points, scores, undone = row["curve"], row["scores"], row["undone_updates"]
        zero = next((f"{math.ceil(step / BIN) * BIN:,}" for step, value in points if value >= 0), "not yet")
        faults = [row["layers"][name] for name in CONVS]
        never = " / ".join(f"{fraction:.0%}" for _, fraction in faults)
        never += " (dead)" if all(fault == "dead" for fault, _ in faults) else ""
        line = [row["cell"]["run"], f"{points[-1][1]:.1f}", zero, f"{np.mean(scores):.1f} ± {np.std(scores):.1f}"]
        lines.append([*line, "-" if undone is None else undone, never, f"{row['minutes']:.0f}"])
    heads = ["run", "return of the last 100 games", "at 0 by step", "20 games of the final model", "updates undone"]
    return markdown([*heads, "conv units never positive at the end", "minutes"], lines)


def shipped_table() -> str:
    """A row for each run of the shipped settings: games of training, then the checks in SB3's own env."""
    lines = []
    for row in runs_of(GAME):
        cell, games = row["cell"], row["games"]
        if cell["settings"] != SHIPPED_NAME or cell["steps"] < STEPS:
            continue
        returns = [f"{mean_return(games, step):.1f}" for step in MARKS]
        mark, confirmed = first_at(games, MARK), next((at for at, _, again in row["checks"] if again >= MARK), None)
        scores = [score for at, score, _ in row["checks"] if confirmed is not None and at >= confirmed]
        checks = f"{len(scores)}: {min(scores):.1f} to {max(scores):.1f}" if scores else "-"
        reached = ["-" if at is None else f"{at:,}" for at in (mark, confirmed)]
        live = ", ".join(f"{name} {alive}/{units}" for name, (alive, units) in row["live"].items())
        lines.append([cell["seed"], *returns, *reached, checks, row["undone_updates"], live])
    heads = [f"return at {step // 1000}k" for step in MARKS]
    reached = ["last 30 at 18", "18 confirmed", "checks from there on"]
    return markdown(["seed", *heads, *reached, "updates undone", "live units at the end"], lines)
