"""The timeline of the layers: scales, colours, sizes, and what cannot be read."""

from pathlib import Path

import numpy as np
from PIL import Image

from helpers.run_folders import write_run
from sb3_stable_ppo.runs.folder import RunReader
from sb3_stable_ppo.snapshots.pictures import GAP, NONFINITE, index_grid
from sb3_stable_ppo.snapshots.timeline import MAX_SIDE, evenly, fitted, palette_png, timeline_of, timeline_scale


def test_a_timeline_shows_a_layer_going_dark(tmp_path: Path) -> None:
    timeline = timeline_of(RunReader(write_run(tmp_path / "run", snapshots=10, dies_at=20)))
    assert len(timeline.steps) == 10
    for found in timeline.layers.values():
        assert [active > 0 for active in found.active] == [step <= 20 * 1024 for step in timeline.steps]
        dark = found.frames[-1]
        assert set(np.unique(dark)) == {0, GAP}
    assert timeline.observation is not None
    assert timeline.observation.shape == (84, 84)


def test_the_scale_hides_neither_a_death_nor_an_explosion() -> None:
    assert timeline_scale(np.array([[2.0], [0.0], [0.0]])) == 2.0
    assert timeline_scale(np.array([[2.0], [3.0], [900.0]])) == 3.0
    assert timeline_scale(np.zeros((3, 2))) == 1.0
    assert timeline_scale(np.array([[np.nan], [4.0], [np.inf]])) == 1.0


def test_what_is_not_finite_is_marked_in_its_own_colour() -> None:
    grid = index_grid(np.array([[[np.nan]], [[1.0]], [[0.0]]]), 1.0)
    assert grid[1, 1] == NONFINITE
    assert grid[1, 3] == GAP - 1
    assert grid[3, 1] == 0


def test_broken_snapshots_are_passed_over_and_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", snapshots=5)
    steps = RunReader(folder).snapshot_steps()
    (folder / "snapshots" / f"{steps[2]:012d}.npz").write_bytes(b"PK cut short")
    (folder / "snapshots" / "observation.npz").write_bytes(b"")
    timeline = timeline_of(RunReader(folder))
    assert timeline.steps == [*steps[:2], *steps[3:]]
    assert timeline.observation is None
    assert [note.split(" cannot")[0] for note in timeline.notes] == [
        f"The snapshot of step {steps[2]:,}",
        "The observation of the snapshots",
    ]


def test_a_snapshot_with_any_byte_damaged_is_read_or_passed_over(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", snapshots=2)
    path = folder / "snapshots" / f"{RunReader(folder).snapshot_steps()[0]:012d}.npz"
    whole = path.read_bytes()
    for place in range(0, len(whole), max(len(whole) // 200, 1)):
        path.write_bytes(bytes([*whole[:place], whole[place] ^ 0xFF, *whole[place + 1 :]]))
        assert timeline_of(RunReader(folder)).steps


def test_large_maps_are_shown_by_the_largest_of_each_block() -> None:
    maps = np.zeros((64, 200, 150))
    maps[3, 199, 149] = -7.0
    small = fitted(maps)
    assert small.shape[0] == 64
    assert small[3].max() == 7.0
    assert max(index_grid(small, 7.0).shape) <= MAX_SIDE
    assert fitted(np.ones((32, 20, 20))).shape == (32, 20, 20)


def test_a_palette_png_is_the_very_picture() -> None:
    import io

    grid = index_grid(np.random.default_rng(0).random((4, 5, 6)), 1.0)
    read = Image.open(io.BytesIO(palette_png(grid)))
    assert read.mode == "P"
    assert (np.asarray(read) == grid).all()


def test_evenly_keeps_both_ends() -> None:
    assert evenly(list(range(500)), 200)[0] == 0
    assert evenly(list(range(500)), 200)[-1] == 499
    assert len(set(evenly(list(range(500)), 200))) == 200
