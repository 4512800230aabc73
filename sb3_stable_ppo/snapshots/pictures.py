"""
Activations as pictures: a grid of channels in viridis, and how much moves in a frame. Arrays in, arrays out.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.floating]

# Sixteen evenly spaced colours of matplotlib's viridis (CC0); between them we interpolate.
VIRIDIS = np.array(
    [
        (68, 1, 84), (72, 26, 108), (71, 47, 125), (65, 68, 135), (57, 86, 140), (49, 104, 142), (42, 120, 142),
        (35, 136, 142), (31, 152, 139), (34, 168, 132), (53, 183, 121), (84, 197, 104), (122, 209, 81),
        (165, 219, 54), (210, 226, 27), (253, 231, 37),
    ],
    dtype=np.float64,
)  # fmt: skip
GAP, NONFINITE = 254, 255
"""Indices of the palette; below them viridis, from dark to bright."""
GAP_COLOUR = (24, 24, 27)
NONFINITE_COLOUR = (255, 0, 80)


def viridis(values: Floats) -> Image:
    """
    Colours for values in [0, 1]; values beyond are cut off, non-finite ones are a red that viridis has not.

    :param values: any shape
    :return: shape (*values.shape, 3)
    """
    values = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(values)
    positions = np.clip(np.where(finite, values, 0.0), 0.0, 1.0) * (len(VIRIDIS) - 1)
    stops = np.arange(len(VIRIDIS))
    channels = [np.interp(positions, stops, VIRIDIS[:, channel]) for channel in range(3)]
    colours: Image = np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
    colours[~finite] = NONFINITE_COLOUR
    return colours


def colour_scale(activations: Floats) -> float:
    """
    The magnitude that is drawn brightest: the largest finite ``|activation|``, and 1 for a layer of zeros.

    :param activations: one layer, any shape
    """
    magnitudes = np.abs(np.asarray(activations, dtype=np.float64))
    magnitudes = magnitudes[np.isfinite(magnitudes)]
    largest = float(magnitudes.max()) if magnitudes.size else 0.0
    return largest if largest > 0 else 1.0


def _palette() -> Image:
    ramp = viridis(np.linspace(0.0, 1.0, GAP))
    return np.concatenate([ramp, np.array([GAP_COLOUR, NONFINITE_COLOUR], dtype=np.uint8)])


PALETTE = _palette()


def index_grid(activations: Floats, scale: float, gap: int = 1) -> Image:
    """
    One picture of a layer: its channels side by side, magnitude from dark (0) to bright (``scale``).

    :param activations: one layer for one observation, shape (channels, height, width)
    :param scale: the magnitude drawn brightest
    :param gap: pixels between two channels
    :return: indices of ``PALETTE``, shape (height, width)
    """
    channels, height, width = activations.shape
    columns = math.ceil(math.sqrt(channels))
    rows = math.ceil(channels / columns)
    shares = np.abs(np.asarray(activations, dtype=np.float64)) / scale
    finite = np.isfinite(shares)
    indices = np.rint(np.clip(np.where(finite, shares, 0.0), 0.0, 1.0) * (GAP - 1)).astype(np.uint8)
    indices[~finite] = NONFINITE
    grid = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap), GAP, dtype=np.uint8)
    for index, channel in enumerate(indices):
        top = gap + index // columns * (height + gap)
        left = gap + index % columns * (width + gap)
        grid[top : top + height, left : left + width] = channel
    return grid


def channel_grid(activations: Floats, scale: float, gap: int = 1) -> Image:
    """
    :func:`index_grid` in colours.

    :param activations: see there
    :param scale: see there
    :param gap: see there
    :return: shape (height, width, 3)
    """
    picture: Image = PALETTE[index_grid(activations, scale, gap)]
    return picture


def central_motion(frames: npt.NDArray[Any]) -> float:
    """
    How much moves in the middle of a stack of frames, throughout: the smallest mean ``|difference|`` between two
    consecutive frames, over the middle 60% of the width and the lower 80% of the height.

    In Pong nothing but the ball moves there, so the value is above 0 just when the ball is in play in all frames. A
    stack with an empty frame (just after a reset) counts as 0; a single frame as its own standard deviation.

    :param frames: shape (frames, height, width)
    """
    _, height, width = frames.shape
    middle = frames[:, height // 5 :, width // 5 : width - width // 5].astype(np.float32)
    if not all(frame.any() for frame in middle):
        return 0.0
    if len(middle) == 1:
        return float(middle.std())
    return float(np.abs(np.diff(middle, axis=0)).mean(axis=(1, 2)).min())
