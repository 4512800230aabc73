"""Activations as pictures."""

import math

import matplotlib
import numpy as np
import pytest

from sb3_stable_ppo.snapshots.pictures import (
    GAP_COLOUR,
    NONFINITE_COLOUR,
    central_motion,
    channel_grid,
    colour_scale,
    viridis,
)


def test_viridis_is_matplotlibs_to_the_eye() -> None:
    values = np.linspace(0, 1, 256)
    theirs = np.rint(matplotlib.colormaps["viridis"](values)[:, :3] * 255)
    difference = np.abs(viridis(values).astype(int) - theirs)
    assert difference.max() <= 8
    assert difference.mean() < 1


def test_viridis_cuts_off_and_marks_what_is_not_finite() -> None:
    low, high, broken, infinite = viridis(np.array([-1.0, 7.0, math.nan, math.inf])).tolist()
    assert [low, high] == viridis(np.array([0.0, 1.0])).tolist()
    assert broken == infinite == list(NONFINITE_COLOUR)


def test_a_grid_has_each_channel_in_its_place() -> None:
    layer = np.zeros((3, 2, 2))
    layer[1, 0, 1] = -4.0
    grid = channel_grid(layer, scale=4.0)
    assert grid.shape == (7, 7, 3)  # 2 x 2 cells of 2 x 2 with gaps of 1
    bright, dark = viridis(np.array([1.0, 0.0]))
    assert grid[1, 5].tolist() == bright.tolist()
    assert grid[1, 1].tolist() == dark.tolist()
    assert grid[4, 4].tolist() == list(GAP_COLOUR)  # there is no fourth channel


def test_a_layer_that_dies_goes_dark_on_the_scale_of_its_first_snapshot() -> None:
    alive = np.random.default_rng(0).uniform(0, 3, (4, 5, 5))
    scale = colour_scale(alive)
    assert channel_grid(alive, scale).mean() > channel_grid(alive * 0.01, scale).mean() + 20


@pytest.mark.parametrize(
    ("layer", "scale"), [([1.0, -3.0], 3.0), ([0.0, 0.0], 1.0), ([math.nan, 2.0], 2.0), ([math.nan], 1.0)]
)
def test_colour_scale(layer: list[float], scale: float) -> None:
    assert colour_scale(np.array(layer)) == scale


def stack_with_ball(columns: list[int]) -> np.ndarray:
    frames = np.full((4, 84, 84), 87, np.uint8)
    for frame, column in zip(frames, columns, strict=True):
        frame[40:42, column] = 236
    return frames


def test_motion_in_the_middle_is_a_ball_in_play_throughout_the_stack() -> None:
    assert central_motion(stack_with_ball([30, 33, 36, 39])) > 0
    assert central_motion(stack_with_ball([30, 33, 36, 36])) == 0.0


def test_paddles_the_score_and_the_blank_frames_after_a_reset_are_no_motion() -> None:
    paddles = stack_with_ball([40] * 4)
    paddles[:, 50, :] += np.arange(4, dtype=np.uint8)[:, None] * np.array([1] * 16 + [0] * 52 + [1] * 16, np.uint8)
    paddles[:, 3, :] = np.arange(4, dtype=np.uint8)[:, None]
    assert central_motion(paddles) == 0.0
    reset = stack_with_ball([30, 33, 36, 39])
    reset[0] = 0
    assert central_motion(reset) == 0.0
