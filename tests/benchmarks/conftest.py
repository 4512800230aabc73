"""Each test finds the benchmarks as their scripts find one another."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from helpers.benchmarks import BENCHMARKS


@pytest.fixture(autouse=True)
def _on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "path", list(sys.path))  # what a script adds is gone after the test


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for results in place of the real one."""
    monkeypatch.setenv("BENCHMARK_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


@pytest.fixture
def real_results(monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is on record."""
    monkeypatch.delenv("BENCHMARK_RESULTS", raising=False)
    return BENCHMARKS / "results"
