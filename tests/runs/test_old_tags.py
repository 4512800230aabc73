"""The tags of version 0.1.0 in a run's log are read under their names now."""

import csv
from pathlib import Path

from helpers.processes import ROOT
from helpers.run_folders import write_progress
from sb3_stable_ppo.runs.data import read_run

OLD_RUN = ROOT / "tests" / "fixtures" / "version_0_1_0" / "image_run"


def test_a_run_of_version_0_1_0_has_its_guards_figures_under_their_new_tags() -> None:
    with (OLD_RUN / "progress.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["guards/unit_loss"]]
    curves = read_run(OLD_RUN).curves
    assert len(rows) == 4
    for old, new in (
        ("guards/unit_loss", "guards/lost_unit_fraction"),
        ("guards/silenced", "guards/newly_inactive_fraction"),
    ):
        assert old not in curves
        assert curves[new].steps.tolist() == [float(row["time/total_timesteps"]) for row in rows]
        assert curves[new].values.tolist() == [float(row[old]) for row in rows]


def test_a_run_that_went_on_in_a_newer_version_keeps_the_steps_of_both_tags(tmp_path: Path) -> None:
    steps = {"time/total_timesteps": [64, 128, 192]}
    tags = {"guards/unit_loss": [0.1, "", ""], "guards/lost_unit_fraction": ["", 0.2, 0.3]}
    write_progress(tmp_path, {**steps, **tags})
    found = read_run(tmp_path).curves["guards/lost_unit_fraction"]
    assert (found.steps.tolist(), found.values.tolist()) == ([64.0, 128.0, 192.0], [0.1, 0.2, 0.3])
