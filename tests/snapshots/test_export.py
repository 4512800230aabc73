"""The timeline as files: the layers and, beside them, the return."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.run_folders import write_run
from sb3_stable_ppo.cli.app import main
from sb3_stable_ppo.runs.data import read_run
from sb3_stable_ppo.runs.folder import RunReader
from sb3_stable_ppo.runs.series import RETURN, Series, finite, series
from sb3_stable_ppo.snapshots.export import HEIGHT, write_gif, write_strip
from sb3_stable_ppo.snapshots.timeline import timeline_of


def curve_pixels(gif: Path) -> list[tuple[int, int]]:
    """Of each frame, how far to the right and how high up the curve goes, in pixels."""
    found = []
    with Image.open(gif) as film:
        for index in range(getattr(film, "n_frames", 1)):
            film.seek(index)
            colours = np.asarray(film.convert("RGB")).astype(int)[:, -round(1.3 * HEIGHT) - 8 :]
            rows, columns = np.nonzero(colours[..., 1] > colours[..., 0] + 40)  # the rest is grey
            found.append((int(columns.max()), HEIGHT - int(rows.min())))
    return found


def test_the_curve_of_a_film_grows_to_the_right_and_rises_with_the_return(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", snapshots=5)
    write_gif(timeline_of(RunReader(run)), tmp_path / "film.gif", read_run(run).curves[RETURN])
    reached = curve_pixels(tmp_path / "film.gif")
    assert len(reached) == 5
    assert reached == sorted(reached)
    assert len(set(reached)) == 5


def test_a_run_without_returns_has_its_layers_alone(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", snapshots=3)
    timeline, returns = timeline_of(RunReader(run)), read_run(run).curves[RETURN]
    write_gif(timeline, tmp_path / "bare.gif")
    write_gif(timeline, tmp_path / "film.gif", returns)
    with Image.open(tmp_path / "bare.gif") as bare, Image.open(tmp_path / "film.gif") as film:
        assert film.width == bare.width + round(1.3 * HEIGHT) + 8
    with_curve, without = write_strip(timeline, tmp_path / "a", 3, returns), write_strip(timeline, tmp_path / "b", 3)
    with Image.open(with_curve) as above, Image.open(without) as alone:
        assert above.height > alone.height
        assert above.width == alone.width


def test_before_the_first_episode_has_ended_there_is_no_curve_and_no_error(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", snapshots=3)
    write_gif(timeline_of(RunReader(run)), tmp_path / "film.gif", series([(1e9, 3.0)]))
    assert (tmp_path / "film.gif").stat().st_size > 0


@pytest.mark.parametrize(("values", "expected"), [([], None), ([np.nan, np.nan], None), ([1.0, np.nan], [1.0])])
def test_of_a_figure_what_is_finite_is_drawn(values: list[float], expected: list[float] | None) -> None:
    found = finite(Series(np.arange(len(values), dtype=float), np.array(values)))
    assert (None if found is None else found.values.tolist()) == expected
    assert finite(None) is None


def test_a_film_has_at_most_the_frames_asked_for(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", snapshots=9)
    assert main(["report", str(run), "--gif", str(tmp_path / "film.gif"), "--frames", "4"]) == 0
    with Image.open(tmp_path / "film.gif") as film:
        assert getattr(film, "n_frames", 1) == 4


def test_channels_are_counted_as_everywhere_else_and_by_the_pictures_where_nobody_has(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", snapshots=3)
    lines = [json.loads(line) for line in (folder / "health.jsonl").read_text().splitlines()]
    lines[0]["layers"]["conv1"]["live"] = 29
    (folder / "health.jsonl").write_text("\n".join(map(json.dumps, lines)))
    layer = timeline_of(RunReader(folder)).layers["conv1"]
    assert (layer.counts[0], layer.counted) == (29, "live")
    (folder / "health.jsonl").unlink()
    layer = timeline_of(RunReader(folder)).layers["conv1"]
    assert (layer.counts, layer.counted) == (layer.active, "active")
