"""Where the benchmarks are, and how to call one as its command does."""

from __future__ import annotations

import runpy
import sys
from typing import Any

import pytest

from helpers.processes import ROOT

BENCHMARKS = ROOT / "benchmarks"
SHARED = {
    "command",
    "episodes",
    "game_settings",
    "game_tables",
    "intervals",
    "million_steps",
    "pong",
    "ranges_of_runs",
    "record",
    "shifted",
    "suite_settings",
    "suite_watch",
    "vector_settings",
    "vector_tables",
    "vitals",
}
"""Modules that benchmarks import, which measure nothing by themselves."""
FIGURES = "figures"
"""Writes what ``suite`` has recorded into the docs, and measures nothing either."""
NAMES = sorted({path.stem for path in BENCHMARKS.glob("*.py")} - SHARED - {FIGURES})
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def call(monkeypatch: pytest.MonkeyPatch, name: str, *flags: str) -> None:
    """Run a script in this process as ``python benchmarks/<name>.py`` does, without a new import of torch."""
    script = str(BENCHMARKS / f"{name}.py")
    monkeypatch.setattr(sys, "argv", [script, *flags])
    runpy.run_path(script, run_name="__main__")


def load(name: str) -> dict[str, Any]:
    """What a module of the benchmarks defines."""
    return runpy.run_path(str(BENCHMARKS / f"{name}.py"))
