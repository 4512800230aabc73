"""Pictures, probes and the run folder."""

import json
import math
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from hypothesis import given, strategies as st

from sb3_stable_ppo.runs.folder import RunReader, RunWriter, thinned
from sb3_stable_ppo.snapshots.pictures import (
    GAP_COLOUR,
    NONFINITE_COLOUR,
    central_motion,
    channel_grid,
    colour_scale,
    viridis,
)

# -- pictures ----------------------------------------------------------------------------------------------------------


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


# -- run folder --------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    writer, reader = RunWriter(tmp_path / "run"), RunReader(tmp_path / "run")
    writer.describe(env="Pong", status="running")
    writer.describe(status="finished")
    writer.health(
        1024, {"layers": {"conv1": {"units": 32, "live": 30, "dormant_fraction": np.float32(0.125)}}, "kl": math.nan}
    )
    writer.observation({"observation": np.arange(8, dtype=np.uint8)})
    writer.snapshot(1000, {"conv1": np.array([[[0.5, -1e9, math.nan]]])})
    assert reader.facts == {"env": "Pong", "status": "finished"}
    assert list(reader.health()) == [
        {"step": 1024, "layers": {"conv1": {"units": 32, "live": 30, "dormant_fraction": 0.125}}, "kl": None}
    ]
    observation = reader.observation()
    assert observation is not None
    assert observation["observation"].tolist() == list(range(8))
    assert reader.snapshot_steps() == [1000]
    assert str(reader.snapshot(1000)["conv1"].ravel().tolist()) == "[0.5, -65504.0, nan]"


def test_an_empty_or_missing_folder_reads_as_nothing(tmp_path: Path) -> None:
    reader = RunReader(tmp_path / "nowhere")
    assert (reader.facts, list(reader.health()), reader.snapshot_steps(), reader.observation()) == ({}, [], [], None)


def test_a_line_cut_short_by_a_kill_is_passed_over(tmp_path: Path) -> None:
    RunWriter(tmp_path).health(1, {})
    with (tmp_path / "health.jsonl").open("a") as file:
        file.write(json.dumps({"step": 2, "layers": {}})[:9])
    assert [line["step"] for line in RunReader(tmp_path).health()] == [1]


def test_a_line_after_one_cut_short_is_not_lost(tmp_path: Path) -> None:
    (tmp_path / "health.jsonl").write_text('{"step": 1, "layers": {}}\n{"ste')
    for step in (3, 4):
        RunWriter(tmp_path).health(step, {})
    assert [line["step"] for line in RunReader(tmp_path).health()] == [1, 3, 4]


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = RunWriter(tmp_path)
    writer.describe(status="running")

    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        writer.describe(status="finished")
    assert RunReader(tmp_path).facts == {"status": "running"}
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@given(steps=st.sets(st.integers(0, 10**6), max_size=200), keep=st.integers(1, 50))
def test_thinning_keeps_the_newest_and_no_more_than_asked(steps: set[int], keep: int) -> None:
    ordered = sorted(steps)
    kept = sorted(steps - set(thinned(ordered, keep)))
    assert len(kept) <= keep
    if steps:
        assert kept[-1] == ordered[-1]
        assert len(kept) > keep // 2 or len(steps) <= keep


def test_snapshots_are_thinned_on_disk(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path, max_snapshots=4)
    for step in range(1, 6):
        writer.snapshot(step, {"conv1": np.zeros(1)})
    assert RunReader(tmp_path).snapshot_steps() == [1, 3, 5]
