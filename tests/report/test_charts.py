"""Curves, their marks, and heat maps."""

from pathlib import Path

import numpy as np
import pytest

from helpers.report_data import event, run_of
from helpers.run_folders import health_line, layer, write_run
from sb3_stable_ppo.report.charts import curve_charts
from sb3_stable_ppo.report.figures import thinned
from sb3_stable_ppo.report.heat_maps import BRIGHT_IS_GOOD, health_maps
from sb3_stable_ppo.report.marks import COUNTED, MAX_MARKS, marks_of
from sb3_stable_ppo.report.page import render
from sb3_stable_ppo.runs.data import read_run
from sb3_stable_ppo.runs.series import Series


def test_thinning_keeps_every_spike_and_every_gap() -> None:
    values = np.zeros(20_000)
    values[7_777], values[15_003], values[9_000] = 5.0, -3.0, np.nan
    small = thinned(Series(np.arange(20_000.0), values))
    assert len(small.values) <= 1000
    assert {5.0, -3.0} <= set(small.values)
    assert np.isnan(small.values).sum() == 1
    assert (np.diff(small.steps) > 0).all()
    holes = np.where(np.arange(20_000) % 3 == 0, np.nan, values)
    assert thinned(Series(np.arange(20_000.0), holes)).steps[-1] > 19_900
    short = Series(np.arange(3.0), np.ones(3))
    assert thinned(short) is short


def test_curves_have_sb3s_values_and_the_marks_on_their_axis(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run", dies_at=30))
    charts = dict(curve_charts(run))
    assert list(charts["Entropy"].data[0].y) == pytest.approx(list(np.linspace(1.79, 0.9, 40)))
    marks = marks_of(run)
    assert [(mark.step, mark.kind) for mark in marks] == [(21 * 1024, "guard"), (31 * 1024, "alarm")]
    assert [shape.x0 for shape in charts["Entropy"].layout.shapes] == [31 * 1024, 21 * 1024]


def test_what_an_intervention_did_is_a_mark_and_what_is_none_is_left_out() -> None:
    done = {"name": "ReGraMa", "step": 77, "text": "ReGraMa acted (on low_rank)"}
    run = run_of({}, [{**health_line(), "interventions": [done]}])
    assert [(mark.step, mark.kind, mark.text) for mark in marks_of(run)] == [(77, "repair", done["text"])]


@pytest.mark.slow
def test_more_marks_than_one_can_tell_apart_are_thinned_but_for_alarms() -> None:
    curves = {next(iter(COUNTED)): list(range(500)), "train/loss": [0.1] * 500}
    run = run_of(curves, [health_line(events=[event("low_rank", step=123)])])
    (figure,) = [figure for title, figure in curve_charts(run) if title == "Loss"]
    assert len(figure.layout.shapes) <= MAX_MARKS
    assert 123 in [shape.x0 for shape in figure.layout.shapes]
    assert len(marks_of(run)) == 500


def test_heat_maps_have_a_row_for_each_layer_in_the_order_in_which_they_run(tmp_path: Path) -> None:
    maps = dict(health_maps(read_run(write_run(tmp_path / "run", dies_at=20))))
    assert list(maps) == ["Live units", "Dormant units (tau 0.025)", "Rank, share of the layer's highest"]
    live = maps["Live units"].data[0]
    assert list(live.y) == ["conv1", "conv2", "conv3"]
    assert (np.asarray(live.z)[:, 20:] == 0).all()
    assert (np.asarray(live.z)[:, :20] > 0.85).all()


def test_the_bright_end_of_each_heat_map_is_the_good_one(tmp_path: Path) -> None:
    maps = dict(health_maps(read_run(write_run(tmp_path / "run", rollouts=5))))
    scales = {title: figure.data[0] for title, figure in maps.items()}
    assert {scale.colorscale[-1][1] for scale in scales.values()} == {"#fde725"}  # Viridis ends in yellow
    assert [bool(scale.reversescale) for scale in scales.values()] == ["Dormant" in title for title in scales]
    assert BRIGHT_IS_GOOD in render([read_run(tmp_path / "run")])


def test_ranks_that_were_measured_once_have_no_heat_map() -> None:
    def maps(count: int) -> list[str]:
        lines = [{"layers": {"conv1": layer(32, 32, **({"srank": 5} if n < count else {}))}} for n in range(10)]
        return [title for title, _ in health_maps(run_of(health=lines))]

    assert maps(1) == ["Live units", "Dormant units (tau 0.025)"]
    assert len(maps(2)) == 3


def test_a_heat_map_of_many_lines_shows_the_worst_of_each_stretch() -> None:
    lines = [{"layers": {"conv1": layer(0 if n == 1234 else 32, 32)}} for n in range(3000)]
    z = np.asarray(dict(health_maps(run_of(health=lines)))["Live units"].data[0].z)
    assert z.shape == (1, 300)
    assert sorted(set(z[0])) == [0.0, 1.0]
    assert (z == 0).sum() == 1
