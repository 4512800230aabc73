"""
The table of four runs of a million steps of Pong that were recorded before ``suite.py`` was there.
"""

from __future__ import annotations

import math

import numpy as np

from command import markdown
from record import finished

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
