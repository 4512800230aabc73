"""What benchmarks share: a cell in a process of its own, what is on record, and examples that are right."""

from __future__ import annotations

import doctest
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.benchmarks import BENCHMARKS

SCRIPT = """
import os
from command import add_cell_flag, benchmark_parser, parsed, run_in_processes

parser = benchmark_parser("")
add_cell_flag(parser)
args = parsed(parser)
cells = [{"seed": seed} for seed in (1, 2)]
run_in_processes(
    __file__, "squares", args, cells, lambda seed: {"square": seed**2, "process": os.getpid()}, lambda: str(os.getpid())
)
"""


def test_each_cell_runs_in_a_process_of_its_own_and_once(tmp_path: Path) -> None:
    script = tmp_path / "squares.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "BENCHMARK_RESULTS": str(tmp_path), "PYTHONPATH": str(BENCHMARKS)}
    callers = [
        subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    lines = [json.loads(line) for line in (tmp_path / "squares.jsonl").read_text().splitlines()]
    assert [(line["cell"], line["square"]) for line in lines] == [({"seed": 1}, 1), ({"seed": 2}, 4)]
    processes = {line["process"] for line in lines} | {int(caller.stdout.split()[-1]) for caller in callers}
    assert len(processes) == 4


@pytest.mark.parametrize("name", sorted(path.stem for path in BENCHMARKS.glob("*.py") if ">>>" in path.read_text()))
def test_the_examples_in_a_benchmarks_docstrings_are_right(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
