"""
A picture of a run's snapshots for a page or a paper: a row per layer, a column per step, the observation beside them.

    python benchmarks/snapshot_strip.py logs/stable_ppo/PongNoFrameskip-v4_1 docs/img/pong_snapshots.png
"""

from __future__ import annotations

import argparse

import matplotlib
import numpy as np

from sb3_stable_ppo.pictures import channel_grid, colour_scale
from sb3_stable_ppo.runs import RunReader

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def draw(folder: str, target: str, columns: int) -> None:
    """Render the strip of one run."""
    reader = RunReader(folder)
    steps = reader.snapshot_steps()
    chosen = [steps[index] for index in np.linspace(0, len(steps) - 1, min(columns, len(steps))).astype(int)]
    first = reader.snapshot(steps[0])
    figure, axes = plt.subplots(
        len(first), len(chosen) + 1, figsize=(2.1 * (len(chosen) + 1), 2.2 * len(first)), layout="constrained"
    )
    for axis in axes.flat:
        axis.set_axis_off()
    observation = reader.observation() or {}
    frame = next((array for array in observation.values() if array.ndim == 3), None)
    if frame is not None:
        axes[0, 0].imshow(frame[-1], cmap="gray")
        axes[0, 0].set_title("observation", fontsize=9)
    for column, step in enumerate(chosen, start=1):
        snapshot = reader.snapshot(step)
        for row, (layer, start) in enumerate(first.items()):
            axes[row, column].imshow(channel_grid(snapshot[layer], colour_scale(start)), interpolation="nearest")
            title = f"step {step:,}" if row == 0 else ""
            axes[row, column].set_title(f"{layer}   {title}" if column == 1 else title, fontsize=9)
    figure.savefig(target, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run folder")
    parser.add_argument("target", help="a PNG file")
    parser.add_argument("--columns", type=int, default=5)
    args = parser.parse_args()
    draw(args.run, args.target, args.columns)


if __name__ == "__main__":
    main()
