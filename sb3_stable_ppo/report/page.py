"""
The report: runs in, one self-contained HTML page out. It needs no network, and executes nothing but what it ships.
"""

from __future__ import annotations

import base64
import datetime
import json
import math
import secrets
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go  # type: ignore[import-untyped]
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from sb3_stable_ppo import __version__
from sb3_stable_ppo.health.thresholds import DARK
from sb3_stable_ppo.report.activity import dark_means
from sb3_stable_ppo.report.chart_list import constants_of, single_points_of
from sb3_stable_ppo.report.charts import comparison_charts, curve_charts
from sb3_stable_ppo.report.checks import checks_of
from sb3_stable_ppo.report.comparison import Group, grouped
from sb3_stable_ppo.report.figures import COLOURS
from sb3_stable_ppo.report.heat_maps import BRIGHT_IS_GOOD, health_maps
from sb3_stable_ppo.report.marks import marks_of
from sb3_stable_ppo.report.packing import packed, packed_plotly
from sb3_stable_ppo.report.summary import HEADS, Row, summary_of
from sb3_stable_ppo.report.time_axis import span_of
from sb3_stable_ppo.report.verdict import verdict_of
from sb3_stable_ppo.runs.data import RunData
from sb3_stable_ppo.runs.folder import RunReader
from sb3_stable_ppo.runs.series import EVALUATION, RETURN
from sb3_stable_ppo.snapshots.timeline import MAX_BYTES, MAX_FRAMES, Timeline, evenly, palette_png, png, timeline_of

LEAST_FRAMES = 40
MOST_TIMELINES = 4
"""Runs whose timelines are shown side by side."""


def render(runs: Sequence[RunData], refresh: int | None = None) -> str:
    """
    The page of a run, or of several laid over each other.

    :param runs: one or more
    :param refresh: seconds after which the page reloads itself; None: it does not
    :return: HTML
    """
    labels = _labels(runs)
    groups = grouped(runs, labels)
    timelines = [timeline_of(RunReader(run.folder), max(MAX_FRAMES // len(runs), LEAST_FRAMES)) for run in runs]
    shown = [
        (label, run, timeline) for label, run, timeline in zip(labels, runs, timelines, strict=True) if timeline.steps
    ]
    shown = shown[:MOST_TIMELINES]
    frames = [_timeline(label, run, timeline, MAX_BYTES // max(len(shown), 1)) for label, run, timeline in shown]
    steps = evenly(sorted({step for timeline in frames for step in timeline["steps"]}), 2 * MAX_FRAMES)
    about = [_about(label, run, timeline) for label, run, timeline in zip(labels, runs, timelines, strict=True)]
    charts: dict[str, Any] = {}
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    assets = files("sb3_stable_ppo.report")
    page: str = environment.from_string(assets.joinpath("page.html").read_text(encoding="utf-8")).render(
        title=_title(runs),
        nonce=secrets.token_hex(8),
        runs=about,
        summary=_summary(groups, dict(zip((run.folder for run in runs), about, strict=True))),
        summary_heads=HEADS,
        timelines=frames,
        n_frames=len(steps),
        sections=_sections(runs, labels, groups, charts),
        marks=marks_of(runs[0]) if len(runs) == 1 else [],
        legend=[(group.name, COLOURS[index % len(COLOURS)]) for index, group in enumerate(groups)],
        data={
            "refresh": refresh,
            "steps": steps,
            "dark": DARK,
            "timelines": [_moving(timeline) for timeline in frames],
        },
        css=Markup(assets.joinpath("page.css").read_text(encoding="utf-8")),
        js=Markup(assets.joinpath("page.js").read_text(encoding="utf-8")),
        packed={"charts": packed(json.dumps(charts)), "plotly": packed_plotly()} if charts else {},
        version=__version__,
        written=datetime.datetime.now().astimezone().isoformat(" ", "seconds"),
    )
    return page


def _summary(groups: Sequence[Group], about: Mapping[Path, dict[str, Any]]) -> list[Row]:
    """The table at the top, of several runs."""
    if len(about) < 2:
        return []
    return summary_of(groups, [[about[run.folder]["verdict"] for run in group.runs] for group in groups])


def _sections(
    runs: Sequence[RunData], labels: Sequence[str], groups: Sequence[Group], charts: dict[str, Any]
) -> list[dict[str, Any]]:
    """The headings, what is told below them, and the charts' places; what they show is added to ``charts``."""
    if len(runs) == 1:
        told = [("Constant over the run", constants_of(runs[0])), ("Measured only once", single_points_of(runs[0]))]
        curves, maps = curve_charts(runs[0]), [("Health by layer", health_maps(runs[0]))]
    else:
        told = [(f"Constant in {group.name}", constants_of(group.runs[0])) for group in groups]
        span = span_of(runs)
        curves = comparison_charts(groups)
        maps = [(f"Health by layer: {label}", health_maps(run, span)) for label, run in zip(labels, runs, strict=True)]
    layers = [layer for run in runs for line in run.health[-1:] for layer in line["layers"]]
    facts = " ".join(f"{what}: {values}." for what, values in told if values)
    sections = [{"heading": "Curves", "kind": "charts", "facts": facts, "charts": _numbered(curves, charts)}]
    for index, (heading, figures) in enumerate(maps):
        meanings = "" if index else " ".join([BRIGHT_IS_GOOD, *dark_means(layers)])
        sections.append({"heading": heading, "kind": "maps", "facts": meanings, "charts": _numbered(figures, charts)})
    return [section for section in sections if section["charts"] or (section["kind"] == "charts" and section["facts"])]


def _title(runs: Sequence[RunData]) -> str:
    if len(runs) == 1:
        facts = runs[0].facts
        what = " on ".join(str(facts[name]) for name in ("algo", "env") if facts.get(name))
        return f"{runs[0].name}: {what}" if what else runs[0].name
    return f"{len(runs)} runs compared"


def _labels(runs: Sequence[RunData]) -> list[str]:
    """Names that tell the runs apart: as many of their folders as it takes."""
    parts = [run.folder.resolve().parts for run in runs]
    for depth in range(1, max(len(part) for part in parts) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{run.name} ({number})" for number, run in enumerate(runs, start=1)]


def _about(label: str, run: RunData, timeline: Timeline) -> dict[str, Any]:
    facts = run.facts
    told = [f"{run.steps:,} steps", f"status: {run.status}"]
    told += [f"{name} {facts[name]}" for name in ("seed", "started") if facts.get(name) is not None]
    versions = facts.get("versions")
    told += [f"{name} {number}" for name, number in versions.items() if number] if isinstance(versions, dict) else []
    trained = {"n_timesteps": facts["n_timesteps"]} if facts.get("n_timesteps") else {}  # --n-timesteps, or the entry's
    settings = json.dumps({**run.settings, **trained}, indent=2, default=str) if run.settings else ""
    ending = {
        "killed": "The process that trained is gone without having recorded an end: this is what it left.",
        "running": "The run goes on, or was killed on another machine: this is what there is so far.",
        "failed": f"The run ended with an error: {facts.get('error', 'which is not on record')}",
    }
    notes = [ending[run.status]] if run.status in ending else []
    if facts.get("resumed_from"):
        notes.append(f'The run was resumed from {facts["resumed_from"]}: "at first" means where it was resumed.')
    return {
        "label": label,
        "verdict": verdict_of(run, timeline),
        "checks": checks_of(run, timeline),
        "facts": ", ".join(told),
        "settings": settings,
        "notes": notes,
        "unread": [*run.notes, *timeline.notes],
    }


def _timeline(label: str, run: RunData, timeline: Timeline, max_bytes: int) -> dict[str, Any]:
    """Pictures as base64, and fewer of them where they would make the page too heavy."""
    middle = len(timeline.steps) // 2
    of_a_frame = sum(len(palette_png(layer.frames[middle])) for layer in timeline.layers.values())
    kept = evenly(list(range(len(timeline.steps))), max(max_bytes // of_a_frame, 2))
    thinned = f"{len(kept)} of the {timeline.n_snapshots} snapshots of {label} are shown, evenly spaced."
    layers = [
        {
            "name": name,
            "units": layer.units,
            "counts": [layer.counts[index] for index in kept],
            "counted": layer.counted,
            "frames": [_base64(palette_png(layer.frames[index])) for index in kept],
            "spark": _spark([layer.counts[index] / layer.units for index in kept]),
            "height": layer.frames[0].shape[0],
            "width": layer.frames[0].shape[1],
        }
        for name, layer in timeline.layers.items()
    ]
    steps = [timeline.steps[index] for index in kept]
    return {
        "label": label,
        "steps": steps,
        "scores": _scores(run, steps),
        "observation": None if timeline.observation is None else _base64(png(timeline.observation)),
        "layers": layers,
        "thinned": thinned if len(kept) < timeline.n_snapshots else "",
    }


def _moving(timeline: dict[str, Any]) -> dict[str, Any]:
    """What the script needs of a timeline; the template has the rest."""
    layers = [{name: layer[name] for name in ("units", "counts", "counted", "frames")} for layer in timeline["layers"]]
    return {"steps": timeline["steps"], "scores": timeline["scores"], "layers": layers}


def _scores(run: RunData, steps: list[int]) -> list[float | None]:
    """The last return on record at each step."""
    series = run.curves.get(RETURN) or run.curves.get(EVALUATION)
    if series is None:
        return [None] * len(steps)
    places = np.searchsorted(series.steps, steps, side="right") - 1
    values = [float(series.values[place]) if place >= 0 else math.nan for place in places]
    return [value if math.isfinite(value) else None for value in values]


def _spark(shares: list[float]) -> str:
    """Points of a line from left to right, 100 wide and 20 high."""
    width = max(len(shares) - 1, 1)
    return " ".join(f"{100 * index / width:.1f},{19 - 18 * share:.1f}" for index, share in enumerate(shares))


def _numbered(figures: list[tuple[str, go.Figure]], charts: dict[str, Any]) -> list[dict[str, str]]:
    """The charts' places on the page; what they show is added to ``charts``."""
    placed = []
    for title, figure in figures:
        name = f"chart{len(charts)}"
        charts[name] = json.loads(figure.to_json())
        charts[name]["layout"].pop("template", None)  # plotly's own theme: the page has one
        placed.append({"id": name, "title": title})
    return placed


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
