"""Results of benchmarks: one JSON line per finished run, with the machine and the versions it ran on."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
"""What the tables in docs/ are made from."""
PACKAGES = ("stable-baselines3", "torch", "gymnasium", "ale-py", "numpy")


def folder() -> Path:
    """Where results are read and written: the environment variable ``BENCHMARK_RESULTS``, or ``RESULTS``."""
    return Path(os.environ.get("BENCHMARK_RESULTS") or RESULTS)


def finished(name: str) -> list[dict[str, Any]]:
    """The runs of a benchmark that are on record."""
    path = folder() / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def record(name: str, cell: Mapping[str, Any], figures: Mapping[str, Any]) -> None:
    """
    Append a finished run.

    :param name: the benchmark's name
    :param cell: what was run, such as variant and seed; a run with the same cell is not repeated
    :param figures: what was measured
    """
    folder().mkdir(parents=True, exist_ok=True)
    row = {"cell": cell, **figures, "machine": machine(), "versions": {p: version(p) for p in PACKAGES}}
    with (folder() / f"{name}.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def is_done(name: str, cell: Mapping[str, Any]) -> bool:
    """Whether this very cell is on record."""
    return any(row["cell"] == cell for row in finished(name))


def run_missing(name: str, cells: Iterable[dict[str, Any]], run: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
    """
    Run and record the cells that are not on record, so that a benchmark that was interrupted goes on where it stopped.

    :param name: the benchmark's name
    :param cells: what to run
    :param run: takes a cell and returns its figures
    """
    for cell in cells:
        if not is_done(name, cell):
            record(name, cell, run(cell))
            print("done:", cell, flush=True)


def machine() -> str:
    """Processor, cores, and what it has for matrix products beyond fp32, in words."""
    cpu, flags = platform.processor() or platform.machine(), ""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
        cpu = names[0] if names else cpu
        flags = next((line for line in lines if line.startswith("flags")), "")
    units = "".join(f" with {name}" for name in ("amx_bf16", "avx512_bf16") if name in flags.split())
    return f"{cpu}{units}, {os.cpu_count()} cores, Python {platform.python_version()}"
