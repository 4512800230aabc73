"""The picture of docs/report.md: made by a command, of runs that have today's configuration."""

import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from helpers.processes import ROOT
from helpers.run_folders import write_run
from sb3_stable_ppo.runs.data import RunData, read_run


@pytest.fixture
def picture(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What ``benchmarks/report_picture.py`` defines."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("BENCHMARK_RESULTS", raising=False)
    return runpy.run_path(str(ROOT / "benchmarks" / "report_picture.py"))


def run_with(folder: Path, settings: dict[str, Any], rollouts: int = 10) -> RunData:
    write_run(folder, rollouts=rollouts, snapshots=2)
    (folder / "env").mkdir()
    (folder / "env" / "config.yml").write_text(yaml.safe_dump(settings))
    return read_run(folder)


def test_the_runs_in_the_picture_have_the_configuration_of_today(picture: dict[str, Any]) -> None:
    shown = picture["finished"]("report_picture")[-1]
    assert shown["cell"]["configuration"] == picture["configuration"](), "remake it: see benchmarks/report_picture.py"
    assert shown["healthy"]["verdict"] in ("healthy", "early training")
    assert shown["collapsed"]["verdict"] == "collapsed activations"


def test_runs_that_are_not_todays_are_refused(picture: dict[str, Any], tmp_path: Path) -> None:
    today = picture["configuration"]()
    healthy = run_with(tmp_path / "healthy", {**today["healthy"], "n_timesteps": 3_000_000})
    collapsed = run_with(tmp_path / "collapsed", today["collapsed"])
    assert picture["differences"]({"healthy": healthy, "collapsed": collapsed}, 10_240) == []
    old = run_with(tmp_path / "old", {**today["collapsed"], "learning_rate": 1e-4}, rollouts=5)
    assert picture["differences"]({"healthy": healthy, "collapsed": old}, 10_240) == [
        "collapsed has learning_rate 0.0001, now 0.005",
        "collapsed has 5120 steps, now 10240",
    ]
    with pytest.raises(SystemExit, match="are not those of today"):
        picture["take"](tmp_path, 20_480, None)


@pytest.mark.slow
def test_the_picture_is_taken_of_runs_that_are_there(
    picture: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("chromium") is None:
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    today = picture["configuration"]()
    monkeypatch.setenv("BENCHMARK_RESULTS", str(tmp_path / "results"))
    for name in picture["RUNS"]:
        run_with(tmp_path / name, {**today[name], "n_timesteps": 3_000_000})
    picture["take"](tmp_path, 10_240, tmp_path / "picture.png")
    width, height = Image.open(tmp_path / "picture.png").size
    assert width == picture["WIDTH"]
    assert 600 < height < 3000
    assert [row["healthy"]["steps"] for row in picture["finished"]("report_picture")] == [10_240]
    assert "| collapsed | 10,240 |" in picture["table"]()
