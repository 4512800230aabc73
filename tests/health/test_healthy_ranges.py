"""The ranges of healthy runs: the package's file is what the recorded runs say, and each network finds its own."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.processes import ROOT
from sb3_stable_ppo.common.layer_names import ACTOR, CONV, CRITIC
from sb3_stable_ppo.health.healthy_ranges import STOCK, healthy_ranges, ranges_of
from sb3_stable_ppo.policies.blocks import NORMS

BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture
def of_runs(monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, Any]]:
    """The benchmarks' module that makes ranges from runs, as a script's neighbour finds it."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("BENCHMARK_RESULTS", raising=False)
    return lambda: runpy.run_path(str(BENCHMARKS / "ranges_of_runs.py"))


def test_the_packages_ranges_are_those_of_the_runs_on_record(of_runs: Callable[[], dict[str, Any]]) -> None:
    found = of_runs()
    assert found["FILE"].read_text() == found["as_json"](), "python benchmarks/healthy_ranges.py --write"
    assert healthy_ranges() == found["data"]()


@pytest.mark.parametrize("observations", ["images", "vectors"])
def test_each_network_that_was_measured_has_ranges_for_each_kind_of_its_layers(observations: str) -> None:
    measured = healthy_ranges()["ranges"][observations]
    assert {"layer", STOCK} <= set(measured) <= {*NORMS, STOCK}
    for network, found in measured.items():
        assert found == ranges_of(observations, network)
        assert sum(found["runs"].values()) >= 1
        kinds = {ACTOR, CRITIC} if observations == "vectors" else {CONV, ACTOR, CRITIC}
        kinds -= {CRITIC} if (observations, network) == ("images", STOCK) else set()  # actor and critic share a layer
        assert {kind for kind in (CONV, ACTOR, CRITIC) if kind in found} == kinds, network
    assert ranges_of(observations, "group") == {}


def ranges_in(tree: Any) -> Iterator[list[float]]:
    if isinstance(tree, list):
        yield tree
    elif isinstance(tree, dict):
        for part in tree.values():
            yield from ranges_in(part)


def test_every_range_is_from_low_to_high_and_shares_are_shares() -> None:
    by_observations = healthy_ranges()["ranges"]
    found = list(ranges_in(by_observations))
    assert len(found) > 100
    assert all(low <= high for low, high in found)
    shares = [
        figure
        for networks in by_observations.values()
        for ranges in networks.values()
        for kind in (CONV, ACTOR, CRITIC)
        for name, figure in ranges.get(kind, {}).items()
        if name.endswith("_fraction")
    ]
    assert all(0 <= low <= high <= 1 for low, high in shares)


def run_of(seed: int, live: list[float], ret: float = 500.0, env: str = "CartPole-v1") -> dict[str, Any]:
    """A line of a run whose actor has two layers."""
    layer = {"units": 10, "fault": "linear", "live": live, "srank": [5.0], "fault_fraction": [0.0]}
    figures = {
        "layers": {"pi.fc1": {**layer, "dormant_fraction": [0.1]}, "pi.fc2": {**layer, "dormant_fraction": [0.3]}},
        "gradients": {},
        "features": {"width": 10},
    }
    cell = {"env": env, "network": "layer", "seed": seed, "steps": 100}
    return {"cell": cell, "return": ret, "floor": 400.0, "healthy": ret >= 400.0, "figures": figures}


def test_seeds_are_pooled_layers_and_envs_are_spanned_and_a_run_below_its_floor_does_not_count(
    of_runs: Callable[[], dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = of_runs()
    lines = [
        run_of(1, [float(n) for n in range(11)]),
        run_of(2, [5.0] * 10),
        run_of(3, [10.0], ret=399.0),
        run_of(1, [9.0], env="Pendulum-v1"),
    ]
    (tmp_path / "healthy_ranges.jsonl").write_text("\n".join(map(json.dumps, lines)))
    monkeypatch.setenv("BENCHMARK_RESULTS", str(tmp_path))
    ranges = found["ranges"]("vectors", "layer")
    assert ranges["runs"] == {"CartPole-v1": 2, "Pendulum-v1": 1}
    assert ranges["actor"]["live_fraction"] == [0.1, 0.9]  # 5% and 95% of 21 values are the second and the last but one
    assert ranges["actor"]["dormant_fraction"] == [0.1, 0.3]  # of the two layers
    assert found["ranges"]("images", "layer") == {}
