"""
The timeline as files: a GIF, and PNGs for a page or a paper. Beside the layers, the return of the run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sb3_stable_ppo.runs.series import Series
from sb3_stable_ppo.snapshots.pictures import PALETTE, Image
from sb3_stable_ppo.snapshots.timeline import Timeline, evenly

HEIGHT = 260
"""Pixels of a GIF's pictures."""
SECONDS = 12.0
MARGIN = 8
BACKGROUND, WHITE, GREY, LINE = (24, 24, 27), (255, 255, 255), (161, 161, 170), (94, 201, 98)


def write_gif(timeline: Timeline, path: Path, returns: Series | None = None) -> None:
    """
    All frames in some twelve seconds: the observation on the left, the step above, each layer's live channels below.

    :param timeline: with frames
    :param path: the file
    :param returns: of the run, finite, whose curve grows on the right; None: no curve
    """
    import imageio.v3 as imageio

    frames = [_gif_frame(timeline, index, returns) for index in range(len(timeline.steps))]
    pause = 1000 * SECONDS / len(frames)
    imageio.imwrite(path, np.stack(frames), extension=".gif", duration=min(max(pause, 40.0), 500.0), loop=0)


def write_strip(timeline: Timeline, folder: Path, columns: int, returns: Series | None = None) -> Path:
    """
    ``strip.png``, a row per layer and a column per step, and each of its pictures by itself, unscaled.

    :param timeline: with frames
    :param folder: where to; made if it is not there
    :param columns: steps, evenly spaced
    :param returns: of the run, finite, drawn above, with a dot at each of these steps; None: no curve
    :return: the strip's path
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from PIL import Image as Pillow

    folder.mkdir(parents=True, exist_ok=True)
    chosen = evenly(list(range(len(timeline.steps))), columns)
    with mpl.rc_context({"font.size": 9}):
        shape, curve = (len(timeline.layers), len(chosen) + 1), 2.2 if returns is not None else 0.0
        whole = Figure(figsize=(2.1 * shape[1], 2.2 * shape[0] + curve), layout="constrained")
        figure = whole
        if returns is not None:
            parts: Any = whole.subfigures(2, 1, height_ratios=[curve, 2.2 * shape[0]])
            above, figure = parts
            _draw_returns(above.subplots(), returns, [timeline.steps[index] for index in chosen])
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
        whole.savefig(folder / "strip.png", dpi=110)
    return folder / "strip.png"


def _draw_returns(axes: Any, returns: Series, steps: list[int]) -> None:
    axes.plot(*returns)
    axes.plot(steps, np.interp(steps, *returns), "o", color="C0")
    axes.set(xlabel="environment steps", ylabel="return")
    axes.xaxis.set_major_formatter("{x:,.0f}")


def _gif_frame(timeline: Timeline, index: int, returns: Series | None) -> Image:
    from PIL import Image as Pillow, ImageDraw

    pictures = (
        [] if timeline.observation is None else [("observation", Pillow.fromarray(timeline.observation).convert("RGB"))]
    )
    for name, layer in timeline.layers.items():
        text = f"{name}: {layer.counts[index]} of {layer.units} {layer.counted}"
        pictures.append((text, Pillow.fromarray(PALETTE[layer.frames[index]])))
    scaled = [
        (text, picture.resize((round(HEIGHT * picture.width / picture.height), HEIGHT), Pillow.Resampling.NEAREST))
        for text, picture in pictures
    ]
    if returns is not None:
        scaled.append(_curve_until(returns, timeline.steps[index]))
    width = sum(picture.width + MARGIN for _, picture in scaled) + MARGIN
    canvas = Pillow.new("RGB", (width, HEIGHT + 48), BACKGROUND)
    pen, left = ImageDraw.Draw(canvas), MARGIN
    pen.text((MARGIN, 6), f"step {timeline.steps[index]:,}", fill=WHITE)
    for text, picture in scaled:
        canvas.paste(picture, (left, 24))
        pen.text((left, HEIGHT + 30), text, fill=WHITE)
        left += picture.width + MARGIN
    return np.asarray(canvas, dtype=np.uint8)


def _curve_until(returns: Series, step: int) -> tuple[str, Any]:
    """The return up to a step, on the scale of the whole run: what it is then, and the picture."""
    from PIL import Image as Pillow, ImageDraw

    low, high = float(returns.values.min()), float(returns.values.max())
    picture = Pillow.new("RGB", (round(1.3 * HEIGHT), HEIGHT), BACKGROUND)
    pen, room = ImageDraw.Draw(picture), (picture.width - 2 * MARGIN, HEIGHT - 2 * MARGIN)
    across = MARGIN + room[0] * returns.steps / returns.steps[-1]
    down = MARGIN + room[1] * (high - returns.values) / max(high - low, 1e-9)
    pen.rectangle((0, 0, picture.width - 1, HEIGHT - 1), outline=GREY)
    for value, place in ((high, MARGIN), (low, HEIGHT - MARGIN - 12)):
        pen.text((picture.width - MARGIN, place), f"{value:.1f}", fill=GREY, anchor="ra")
    known = returns.steps <= step
    points = list(zip(across[known].tolist(), down[known].tolist(), strict=True))
    if not points:
        return "return: no episode has ended yet", picture
    if len(points) > 1:
        pen.line(points, fill=LINE, width=2)
    x, y = points[-1]
    pen.ellipse((x - 4, y - 4, x + 4, y + 4), fill=LINE)
    return f"return of the last episodes: {returns.values[known][-1]:.1f}", picture


def _file_name(layer: str) -> str:
    """A layer's name may hold whatever its author liked; a file's may not."""
    return "".join(sign if sign.isalnum() or sign in "._-" else "_" for sign in layer)
