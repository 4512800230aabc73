"""Runs and timelines for tests of the report, made without files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sb3_stable_ppo.report.check import Check
from sb3_stable_ppo.report.checks import checks_of
from sb3_stable_ppo.runs.data import RunData
from sb3_stable_ppo.runs.series import Series
from sb3_stable_ppo.snapshots.timeline import LayerTimeline, Timeline

NO_TIMELINE = Timeline([], {}, None, 0, [])


def active_timeline(**shares: list[float]) -> Timeline:
    """Of layers with 100 channels."""
    layers = {
        name: LayerTimeline(100, 1.0, [], [round(100 * share) for share in active], [0] * len(active))
        for name, active in shares.items()
    }
    return Timeline(list(range(1, 1 + len(next(iter(shares.values()))))), layers, None, 0, [])


def run_of(curves: dict[str, Any] | None = None, health: list[dict[str, Any]] | None = None, **facts: Any) -> RunData:
    found = {
        name: Series(1000.0 * np.arange(1, len(values) + 1), np.array(values, dtype=np.float64))
        for name, values in (curves or {}).items()
    }
    lines = [{"step": 1000 * number, **line} for number, line in enumerate(health or [], start=1)]
    return RunData("run", Path("run"), facts, {}, found, lines, [])


def check(run: RunData, name: str) -> Check:
    (found,) = [one for one in checks_of(run, NO_TIMELINE) if name in one.name]
    return found


def event(name: str, raised: bool = True, **changes: Any) -> dict[str, Any]:
    return {"name": name, "raised": raised, "step": 5, "where": "conv2", "text": f"{name} it is", **changes}


def drawn(**figures: Any) -> dict[str, Any]:
    """The part ``policy`` of a line, of a policy that draws its actions."""
    return {"entropy_share": 0.8, **figures}
