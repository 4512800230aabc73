"""Results of benchmarks: one JSON line per finished run, with the machine and the versions it ran on."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ.get("BENCHMARK_RESULTS", Path(__file__).parent / "results"))
PACKAGES = ("stable-baselines3", "torch", "gymnasium", "ale-py", "numpy")


def finished(name: str) -> list[dict[str, Any]]:
    """The runs of a benchmark that are on record."""
    path = FOLDER / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def record(name: str, cell: Mapping[str, Any], figures: Mapping[str, Any]) -> None:
    """
    Append a finished run.

    :param name: the benchmark's name
    :param cell: what was run, such as variant and seed; a run with the same cell is not repeated
    :param figures: what was measured
    """
    FOLDER.mkdir(exist_ok=True)
    row = {"cell": cell, **figures, "machine": machine(), "versions": {p: version(p) for p in PACKAGES}}
    with (FOLDER / f"{name}.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def is_done(name: str, cell: Mapping[str, Any]) -> bool:
    """Whether this very cell is on record."""
    return any(row["cell"] == cell for row in finished(name))


def machine() -> str:
    """Processor and cores, in words."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    return f"{cpu}, {os.cpu_count()} cores, Python {platform.python_version()}"
