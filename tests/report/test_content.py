"""What a page says, and how heavy it is."""

from pathlib import Path

import numpy as np
import pytest

from helpers.run_folders import write_run
from sb3_stable_ppo.report.page import render
from sb3_stable_ppo.runs.data import read_run
from sb3_stable_ppo.runs.folder import RunWriter
from sb3_stable_ppo.snapshots.timeline import MAX_BYTES


def test_every_run_of_a_comparison_is_judged_by_its_last_snapshot(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(number), snapshots=5, dies_at=20) for number in range(6)]
    for folder in runs:
        (folder / "health.jsonl").unlink()
    page = render([read_run(folder) for folder in runs])
    assert page.count("collapsed activations.</strong> conv1, conv2, conv3: dark in the last snapshot.") == 6


@pytest.mark.parametrize("content", ["null", '{"versions": [1], "num_timesteps": "x", "status": 3}', "[1]"])
def test_facts_that_are_of_the_wrong_kind_are_no_traceback(content: str, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", rollouts=30)
    (folder / "run.json").write_text(content)
    with (folder / "health.jsonl").open("a") as file:
        file.write('{"step": 90000, "events": [1], "layers": 7, "features": [], "policy": null}\n')
    assert "run" in render([read_run(folder)])


@pytest.mark.slow
def test_a_page_of_two_million_steps_stays_light(tmp_path: Path) -> None:
    page = render([read_run(write_run(tmp_path / "run", rollouts=1953, snapshots=500))])
    assert len(page) < 25_000_000
    assert "200 of the 500 snapshots of run are shown, evenly spaced" in page


@pytest.mark.slow
def test_a_network_with_large_maps_has_fewer_frames_on_its_page(tmp_path: Path) -> None:
    writer, random = RunWriter(tmp_path / "run"), np.random.default_rng(0)
    for step in range(1, 101):
        writer.snapshot(step, {"conv1": random.random((256, 60, 60))})
    page = render([read_run(tmp_path / "run")])
    assert len(page) < 4 * MAX_BYTES / 3 + 6_000_000
    assert "of the 100 snapshots of run are shown" in page
