"""
The timeline as files: a GIF, and PNGs for a page or a paper.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sb3_stable_ppo.snapshots.pictures import PALETTE, Image
from sb3_stable_ppo.snapshots.timeline import Timeline, evenly

HEIGHT = 260
"""Pixels of a GIF's pictures."""
SECONDS = 12.0
MARGIN = 8


def write_gif(timeline: Timeline, path: Path) -> None:
    """
    All frames in some twelve seconds, the observation on the left, the step and the active channels below.

    :param timeline: with frames
    :param path: the file
    """
    import imageio.v3 as imageio

    frames = [_gif_frame(timeline, index) for index in range(len(timeline.steps))]
    pause = 1000 * SECONDS / len(frames)
    imageio.imwrite(path, np.stack(frames), extension=".gif", duration=min(max(pause, 40.0), 500.0), loop=0)


def write_strip(timeline: Timeline, folder: Path, columns: int) -> Path:
    """
    ``strip.png``, a row per layer and a column per step, and each of its pictures by itself, unscaled.

    :param timeline: with frames
    :param folder: where to; made if it is not there
    :param columns: steps, evenly spaced
    :return: the strip's path
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from PIL import Image as Pillow

    folder.mkdir(parents=True, exist_ok=True)
    chosen = evenly(list(range(len(timeline.steps))), columns)
    with mpl.rc_context({"font.size": 9}):
        shape = (len(timeline.layers), len(chosen) + 1)
        figure = Figure(figsize=(2.1 * shape[1], 2.2 * shape[0]), layout="constrained")
        axes = np.atleast_2d(figure.subplots(*shape, squeeze=False))
        for axis in axes.flat:
            axis.set_axis_off()
        if timeline.observation is not None:
            axes[0, 0].imshow(timeline.observation, cmap="gray")
            axes[0, 0].set_title("observation", fontsize=9)
            Pillow.fromarray(timeline.observation).save(folder / "observation.png")
        for row, (name, layer) in enumerate(timeline.layers.items()):
            for column, index in enumerate(chosen, start=1):
                picture = PALETTE[layer.frames[index]]
                axes[row, column].imshow(picture, interpolation="nearest")
                step = f"step {timeline.steps[index]:,}" if row == 0 else ""
                axes[row, column].set_title(f"{name}   {step}" if column == 1 else step, fontsize=9)
                Pillow.fromarray(picture).save(folder / f"{_file_name(name)}_{timeline.steps[index]:09d}.png")
        figure.savefig(folder / "strip.png", dpi=110)
    return folder / "strip.png"


def _gif_frame(timeline: Timeline, index: int) -> Image:
    from PIL import Image as Pillow, ImageDraw

    pictures = (
        [] if timeline.observation is None else [("observation", Pillow.fromarray(timeline.observation).convert("RGB"))]
    )
    for name, layer in timeline.layers.items():
        text = f"{name}: {layer.active[index]} of {layer.units} active"
        pictures.append((text, Pillow.fromarray(PALETTE[layer.frames[index]])))
    scaled = [
        (text, picture.resize((round(HEIGHT * picture.width / picture.height), HEIGHT), Pillow.Resampling.NEAREST))
        for text, picture in pictures
    ]
    width = sum(picture.width + MARGIN for _, picture in scaled) + MARGIN
    canvas = Pillow.new("RGB", (width, HEIGHT + 48), (24, 24, 27))
    pen, left = ImageDraw.Draw(canvas), MARGIN
    pen.text((MARGIN, 6), f"step {timeline.steps[index]:,}", fill=(255, 255, 255))
    for text, picture in scaled:
        canvas.paste(picture, (left, 24))
        pen.text((left, HEIGHT + 30), text, fill=(255, 255, 255))
        left += picture.width + MARGIN
    return np.asarray(canvas, dtype=np.uint8)


def _file_name(layer: str) -> str:
    """A layer's name may hold whatever its author liked; a file's may not."""
    return "".join(sign if sign.isalnum() or sign in "._-" else "_" for sign in layer)
