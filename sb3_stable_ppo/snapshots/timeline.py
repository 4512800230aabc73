"""
The timeline of a run: its snapshots as small pictures, one colour scale per layer, and which channels are active.
"""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np

from sb3_stable_ppo.common.errors import one_line
from sb3_stable_ppo.common.files import UNREADABLE, Array
from sb3_stable_ppo.runs.folder import RunReader
from sb3_stable_ppo.runs.series import Series, health_series
from sb3_stable_ppo.snapshots.pictures import PALETTE, Image, index_grid

MAX_FRAMES = 200
"""Of a page; a folder holds up to 500."""
MAX_BYTES = 8_000_000
"""Of a page's pictures, before base64 adds a third: of networks with large maps fewer frames are shown."""
MAX_SIDE = 360
"""Pixels; larger grids show every map by the maxima of its blocks."""
ACTIVE = 0.025
"""A channel is active where its largest magnitude is beyond this share of the layer's scale."""


class LayerTimeline(NamedTuple):
    """
    :param units: channels
    :param scale: the magnitude drawn brightest
    :param frames: palette indices, shape (height, width), one by frame
    :param active: channels that are active, one by frame
    :param broken: channels with a value that is not finite, one by frame
    :param live: channels that HealthCallback had last found live, one by frame; None: it was not on
    """

    units: int
    scale: float
    frames: list[Image]
    active: list[int]
    broken: list[int]
    live: list[int] | None = None

    @property
    def counts(self) -> list[int]:
        """Live channels, as they are counted everywhere; where nobody has, those that are active in the pictures."""
        return self.active if self.live is None else self.live

    @property
    def counted(self) -> str:
        """What the counts are of."""
        return "active" if self.live is None else "live"


class Timeline(NamedTuple):
    """
    :param steps: of the frames
    :param layers: by name
    :param observation: what all frames are the answer to, shape (height, width) or (height, width, 3), if known
    :param n_snapshots: that the folder holds
    :param notes: what could not be read
    """

    steps: list[int]
    layers: dict[str, LayerTimeline]
    observation: Image | None
    n_snapshots: int
    notes: list[str]

    @property
    def active(self) -> dict[str, Series]:
        """By layer, the share of its channels that are active."""
        steps = np.array(self.steps, dtype=np.float64)
        return {name: Series(steps, np.array(layer.active) / layer.units) for name, layer in self.layers.items()}


def timeline_of(reader: RunReader, max_frames: int = MAX_FRAMES) -> Timeline:
    """
    Evenly spaced snapshots, the first and the last among them; broken ones are passed over.

    :param reader: of the run folder
    :param max_frames: at most so many
    """
    steps, notes = reader.snapshot_steps(), []
    snapshots: dict[int, dict[str, Array]] = {}
    for step in evenly(steps, max_frames):
        try:
            snapshots[step] = reader.snapshot(step)
        except UNREADABLE as error:
            notes.append(f"The snapshot of step {step:,} cannot be read: {one_line(error)}")
    names, health = next(iter(snapshots.values()), {}), [*reader.health()] if snapshots else []
    layers = {
        name: layer_timeline([snapshot[name] for snapshot in snapshots.values()])._replace(
            live=live_at(health_series(health, "layers", name, "live"), list(snapshots))
        )
        for name, array in names.items()
        if all(name in snapshot and snapshot[name].shape == array.shape for snapshot in snapshots.values())
        and array.ndim == 3
    }
    try:
        observation = picture_of(reader.observation() or {})
    except UNREADABLE as error:
        observation = None
        notes.append(f"The observation of the snapshots cannot be read: {one_line(error)}")
    return Timeline(list(snapshots) if layers else [], layers, observation, len(steps), notes)


def evenly(items: list[int], count: int) -> list[int]:
    """
    >>> evenly([1, 2, 3, 4, 5], 3)
    [1, 3, 5]

    :param items: to choose from
    :param count: at most so many, at least 1
    """
    if len(items) <= count:
        return items
    if count == 1:
        return items[-1:]
    return [items[index] for index in np.linspace(0, len(items) - 1, count).round().astype(int)]


def layer_timeline(activations: list[Array]) -> LayerTimeline:
    """
    :param activations: of one layer, one by frame, shape (channels, height, width)
    """
    peaks = np.array([np.abs(frame.astype(np.float32)).max(axis=(1, 2)) for frame in activations])  # frames x channels
    scale = timeline_scale(peaks)
    frames = [index_grid(fitted(frame), scale) for frame in activations]
    active = [int(count) for count in (~(peaks <= ACTIVE * scale)).sum(axis=1)]  # NaN counts as active
    broken = [int(count) for count in (~np.isfinite(peaks)).sum(axis=1)]
    return LayerTimeline(activations[0].shape[0], scale, frames, active, broken)


def live_at(live: Series, steps: list[int]) -> list[int] | None:
    """
    >>> live_at(Series(np.array([1024.0, 2048.0]), np.array([30.0, 32.0])), [1000, 2000, 3000])
    [30, 30, 32]

    :param live: units of a layer that were live, by the step of the measurement
    :param steps: of the frames
    :return: what was last measured by then, or else first; None where nothing was
    """
    known = np.isfinite(live.values)
    if not known.any():
        return None
    places = np.searchsorted(live.steps[known], steps, side="right") - 1
    return [int(count) for count in live.values[known][np.maximum(places, 0)]]


def timeline_scale(peaks: Array) -> float:
    """
    One for the whole run: the first frame's largest magnitude or the median frame's, whichever is larger. So neither a
    layer that goes dark nor one that explodes late hides how it was before.

    :param peaks: largest magnitudes, shape (frames, channels)
    :return: 1 where there is nothing but zeros
    """
    largest = np.where(np.isfinite(peaks), peaks, 0.0).max(axis=1)
    return float(max(largest[0], np.median(largest))) or 1.0


def fitted(activations: Array) -> Array:
    """
    Maps that make a grid of no more than ``MAX_SIDE`` pixels, larger ones by the largest magnitude of each block.

    :param activations: shape (channels, height, width)
    """
    channels, height, width = activations.shape
    room = max(MAX_SIDE // int(np.ceil(np.sqrt(channels))) - 1, 1)
    block = -(-max(height, width) // room)
    if block == 1:
        return activations
    pad = [(0, 0), (0, -height % block), (0, -width % block)]
    padded = np.pad(np.abs(activations), pad)
    blocks = padded.reshape(channels, padded.shape[1] // block, block, padded.shape[2] // block, block)
    return np.asarray(blocks.max(axis=(2, 4)))


def picture_of(observation: dict[str, Array]) -> Image | None:
    """
    The newest frame of the first image among an observation's parts.

    :param observation: by key, as stored: images have their channels first, or last where SB3 did not have to move them
    """
    image = next((array for array in observation.values() if array.ndim == 3), None)
    if image is None:
        return None
    if image.shape[0] > image.shape[2]:
        image = image.transpose(2, 0, 1)
    picture = image.transpose(1, 2, 0) if len(image) == 3 else image[-1]
    if picture.dtype != np.uint8:
        low, high = float(picture.min()), float(picture.max())
        picture = (picture - low) / max(high - low, 1e-12) * 255
    return picture.astype(np.uint8)


def png(picture: Image) -> bytes:
    """
    :param picture: palette indices or grey values, shape (height, width); or colours, shape (height, width, 3)
    :return: a PNG file, of indices one with the palette in it
    """
    from PIL import Image as Pillow

    file = io.BytesIO()
    Pillow.fromarray(picture).save(file, "PNG", compress_level=9)
    return file.getvalue()


def palette_png(indices: Image) -> bytes:
    """
    :param indices: of :data:`~sb3_stable_ppo.snapshots.pictures.PALETTE`, shape (height, width)
    :return: a PNG file
    """
    from PIL import Image as Pillow

    image = Pillow.frombytes("P", indices.shape[::-1], indices.tobytes())
    image.putpalette(PALETTE.tobytes())
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=9)
    return file.getvalue()
