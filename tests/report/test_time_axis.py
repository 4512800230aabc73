"""The time axis: it begins and ends with the run, in all charts of a page, however few measurements there are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.report_data import run_of
from helpers.run_folders import health_line, layer, write_progress, write_run
from sb3_stable_ppo.report.charts import comparison_charts, curve_charts
from sb3_stable_ppo.report.comparison import grouped
from sb3_stable_ppo.report.heat_maps import health_maps
from sb3_stable_ppo.report.time_axis import Span, begin_of, edges_of, span_of
from sb3_stable_ppo.runs.data import RunData, read_run
from sb3_stable_ppo.runs.folder import RunWriter


def measured_at(folder: Path, steps: list[int], last: int = 100_000) -> RunData:
    """A run of ``last`` steps with a rank of its layer at a few of them."""
    every = list(range(1000, last + 1, 1000))
    write_progress(folder, {"time/total_timesteps": every, "train/approx_kl": np.linspace(0.1, 0.2, len(every))})
    for step in steps:
        RunWriter(folder).health(step, health_line(layers={"conv1": layer(30, 32, srank=5)}))
    return read_run(folder)


@pytest.mark.parametrize(
    ("steps", "edges"),
    [
        ([40_000, 60_000, 100_000], [0, 50_000, 80_000, 100_000]),
        ([90_000], [0, 100_000]),
        ([100_000], [0, 100_000]),
        ([20_000, 30_000], [0, 25_000, 100_000]),
    ],
)
def test_cells_of_few_measurements_begin_at_0_and_end_with_the_run(
    steps: list[int], edges: list[int], tmp_path: Path
) -> None:
    maps = health_maps(measured_at(tmp_path, steps))
    assert len(maps) == (
        3 if len(steps) > 1 else 2
    )  # ranks are shares of the layer's highest: of one they tell nothing
    for title, figure in maps:
        (cells,) = figure.data
        assert list(cells.x) == edges, title
        assert np.asarray(cells.z).shape == (1, len(steps))
        assert np.asarray(cells.customdata)[0].tolist() == steps
        assert figure.layout.xaxis.range == (0.0, 100_000.0)


def test_cells_of_many_measurements_do_too() -> None:
    run = run_of(health=[{"layers": {"conv1": layer(32, 32)}} for _ in range(3000)])
    cells = dict(health_maps(run))["Live units"].data[0]
    assert len(cells.x) == 301
    assert (cells.x[0], cells.x[-1]) == (0.0, 3_000_000.0)
    assert (np.diff(cells.x) > 0).all()


def test_a_resumed_run_begins_at_its_first_step() -> None:
    steps = 1024.0 * np.arange(500, 600)
    assert begin_of(steps) == 512_000.0
    assert begin_of(1024.0 * np.arange(1, 100)) == 0.0
    assert begin_of(np.array([512_000.0])) == 0.0
    assert edges_of(steps[:3], Span(0.0, 999_000.0)).tolist() == [512_000.0, 512_512.0, 513_536.0, 999_000.0]


def test_curves_and_maps_of_a_run_have_one_range(tmp_path: Path) -> None:
    run = measured_at(tmp_path, [40_000, 60_000, 100_000])
    figures = [*curve_charts(run), *health_maps(run)]
    assert len(figures) > 4
    assert {figure.layout.xaxis.range for _, figure in figures} == {(0.0, 100_000.0)}


def test_runs_that_are_compared_have_the_range_of_all_and_their_cells_end_with_each(tmp_path: Path) -> None:
    runs = [read_run(write_run(tmp_path / str(count), rollouts=count, snapshots=0)) for count in (20, 40)]
    span = span_of(runs)
    assert span == (0.0, 40 * 1024.0)
    figures = [figure for _, figure in comparison_charts(grouped(runs, ["a", "b"]))]
    maps: list[Any] = [figure for run in runs for _, figure in health_maps(run, span)]
    assert {figure.layout.xaxis.range for figure in [*figures, *maps]} == {span}
    assert [figure.data[0].x[-1] for figure in maps] == [20 * 1024.0] * 3 + [40 * 1024.0] * 3
