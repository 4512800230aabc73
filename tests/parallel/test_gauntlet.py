"""The benchmark of stresses, by several processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.processes import LIMIT, ROOT


@pytest.mark.slow
@pytest.mark.parametrize("where_to", ["here", pytest.param("ray", marks=pytest.mark.xdist_group("ray"))])
def test_the_gauntlet_is_spread_and_each_cell_is_on_record_once(
    where_to: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    flags = [
        "--stresses",
        "cartpole-one-sample-mask",
        "cartpole-one-sample-lstm",
        "--variants",
        "stock",
        "--seeds",
        "0",
    ]
    flags += ["--workers", "2"]
    if where_to == "ray":
        flags += ["--ray", request.getfixturevalue("cluster").address]
    environment = {**os.environ, "BENCHMARK_RESULTS": str(tmp_path)}
    command = [sys.executable, str(ROOT / "benchmarks" / "gauntlet.py"), *flags]
    for _ in range(2):
        subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True, timeout=LIMIT)
    rows = [json.loads(line) for line in (tmp_path / "gauntlet.jsonl").read_text().splitlines()]
    assert sorted(row["cell"]["stress"] for row in rows) == ["cartpole-one-sample-lstm", "cartpole-one-sample-mask"]
