"""Every benchmark works in its smallest form, and leaves what is on record alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch as th

from helpers.benchmarks import BENCHMARKS, NAMES, call
from sb3_stable_ppo.fast.config import why_no_bf16


def real_results() -> dict[str, int]:
    return {path.name: path.stat().st_size for path in (BENCHMARKS / "results").iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_runs_in_its_smallest_form_and_leaves_the_real_results_alone(
    name: str,
    results: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if name == "report_cost" and shutil.which("chromium") is None:
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    if name == "bf16_learning" and (why := why_no_bf16(th.device("cpu"))):
        pytest.skip(why)
    before = real_results()
    call(monkeypatch, name, "--smoke")
    (line,) = (results / f"{name}.jsonl").read_text().splitlines()
    assert {"cell", "machine", "versions"} < set(json.loads(line))
    assert real_results() == before

    capsys.readouterr()
    call(monkeypatch, name, "--smoke", "--table")
    assert capsys.readouterr().out.strip()
    assert (results / f"{name}.jsonl").read_text().splitlines() == [line]


def test_the_smallest_form_is_refused_where_the_real_results_lie(
    results: Path,  # noqa: ARG001  # sets the path up
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("BENCHMARK_RESULTS", str(BENCHMARKS / "results"))
    with pytest.raises(SystemExit, match="2"):
        call(monkeypatch, "env_parity", "--smoke")
    assert "unset BENCHMARK_RESULTS" in capsys.readouterr().err
