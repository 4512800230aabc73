"""
The curves of a page, as plotly's figures: of one run, or of several laid over each other. Data in, figures out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go  # type: ignore[import-untyped]

from sb3_stable_ppo.report.comparison import Group, band
from sb3_stable_ppo.runs.data import RunData
from sb3_stable_ppo.runs.series import EVALUATION, RETURN, Floats, Series, health_series, least_live_series, live_shares

MAX_POINTS = 1000
"""Of a curve on the page; longer ones keep the least and the largest value of each stretch."""
MAX_COLUMNS = 300
"""Of a heat map."""
MAX_MARKS = 60
COLOURS = ("#2f6fde", "#e0762f", "#2a9d5c", "#b5489a", "#8a6d3b", "#5b5fc7", "#c23b3b", "#3a9aa8")
COUNTED = {
    "guards/undone_updates": "an update was undone",
    "guards/dropped_updates": "an update was dropped",
    "guards/skipped_steps": "steps of the optimiser were skipped",
    "guards/nonfinite_rewards": "rewards that are not finite",
    "guards/nonfinite_observations": "observations that are not finite",
}
"""What the guards did: running counts, but for the steps skipped in an update."""


class Chart(NamedTuple):
    """
    :param title: shown above
    :param curves: SB3's names and what to call them; of several runs the first that all have is drawn
    :param sign: -1 turns a curve over
    """

    title: str
    curves: dict[str, str]
    sign: int = 1


CHARTS = (
    Chart("Return", {RETURN: "last 100 episodes", EVALUATION: "evaluation"}),
    Chart("Episode length", {"rollout/ep_len_mean": "last 100 episodes", "rollout/ep_len": "episodes"}),
    Chart("Entropy", {"train/entropy_loss": "of the policy, nats"}, -1),
    Chart(
        "KL of an update",
        {
            "train/approx_kl": "as SB3 logs it, log-ratios clamped",
            "guards/raw_approx_kl": "raw",
            "guards/update_kl": "of the whole update",
        },
    ),
    Chart("Clip fraction", {"train/clip_fraction": "clip fraction"}),
    Chart("Value loss", {"train/value_loss": "value loss", "train/critic_loss": "critic loss"}),
    Chart(
        "Policy loss",
        {"train/policy_gradient_loss": "policy", "train/policy_loss": "policy", "train/actor_loss": "actor"},
    ),
    Chart("Loss", {"train/loss": "all of it, last minibatch"}),
    Chart("Explained variance", {"train/explained_variance": "explained variance"}),
    Chart("Standard deviation of the actions", {"train/std": "std"}),
    Chart("Entropy coefficient", {"train/ent_coef": "ent_coef"}),
    Chart("Exploration rate", {"rollout/exploration_rate": "exploration rate"}),
    Chart("Clip range", {"train/clip_range": "clip range"}),
    Chart("Learning rate", {"train/learning_rate": "learning rate"}),
    Chart("Learning-rate scale", {"guards/lr_scale": "what the guards leave of it"}),
    Chart("Error of the first ratio (BatchNorm)", {"norm/first_ratio_error": "largest |ratio - 1|"}),
)


class Mark(NamedTuple):
    """Something that happened: at which step, of which kind (``alarm``, ``clear``, ``guard``, ``repair``), and what."""

    step: int
    kind: str
    text: str


def marks_of(run: RunData) -> list[Mark]:
    """
    Alarms raised and cleared, and what guards and interventions did, in the order of the steps.

    :param run: whose
    """
    found = [
        Mark(int(event.get("step", line["step"])), "alarm" if event.get("raised") else "clear", str(event.get("text")))
        for line in run.health
        for event in line.get("events") or ()
    ]
    found += [
        Mark(int(each.get("step", line["step"])), "repair", str(each.get("text")))
        for line in run.health
        for each in line.get("interventions") or ()
    ]
    for name, text in COUNTED.items():
        curve = run.curves.get(name)
        if curve is not None and len(curve.values):
            changes = curve.values if name.endswith("steps") else np.diff(curve.values, prepend=0.0)
            found += [Mark(int(curve.steps[index]), "guard", text) for index in np.flatnonzero(changes > 0)]
    return sorted(found)


def curve_charts(run: RunData) -> list[tuple[str, go.Figure]]:
    """
    One run: each chart whose figures were logged, with the marks on its time axis.

    :param run: to draw
    """
    figures, marks = [], marks_of(run)
    for chart in CHARTS:
        found = {label: run.curves[name] for name, label in chart.curves.items() if name in run.curves}
        if found:
            figure = _figure(marks)
            for index, (label, series) in enumerate(found.items()):
                _add(figure, series, label, COLOURS[index], chart.sign, markers="evaluation" in label)
            values = chart.sign * np.concatenate([series.values for series in found.values()])
            if (values == values[0]).all():  # plotly would show -1 to 1 around 1e-4
                figure.update_yaxes(range=sorted([0.0, 2 * float(values[0]) or 1.0]))
            figures.append((chart.title, figure))
    for title, name in (("Rank of the features (srank)", "srank"), ("Norm of the features", "norm")):
        series = health_series(run.health, "features", name)
        if len(series.values):
            figure = _figure(marks)
            _add(figure, series, name, COLOURS[0], 1, markers=name == "srank")
            figures.append((title, figure))
    return figures


def health_maps(run: RunData) -> list[tuple[str, go.Figure]]:
    """
    Layer by time: the shares of live and of dormant units, and the rank as a share of the layer's highest.

    :param run: to draw
    """
    live = live_shares(run.health)
    dormant = {name: health_series(run.health, "layers", name, "dormant_fraction") for name in live}
    sranks = {name: health_series(run.health, "layers", name, "srank") for name in live}
    ranks = {name: Series(s.steps, s.values / max(s.values.max(), 1)) for name, s in sranks.items() if len(s.values)}
    maps = [
        ("Live units", _map(live, False, np.fmin.reduceat)),
        ("Dormant units (tau 0.025)", _map(dormant, True, np.fmax.reduceat)),
        ("Rank, share of the layer's highest", _map(ranks, False, np.fmin.reduceat)),
    ]
    return [(title, figure) for title, figure in maps if figure is not None]


def comparison_charts(groups: Sequence[Group]) -> list[tuple[str, go.Figure]]:
    """
    Several runs over each other: a thin line each, and where a group has several seeds their mean and its interval.

    :param groups: of runs
    """
    figures = []
    for chart in CHARTS:
        every = [run.curves for group in groups for run in group.runs]
        name = next((name for name in chart.curves if all(name in curves for curves in every)), None)
        name = name or next((name for name in chart.curves if any(name in curves for curves in every)), None)
        if name is not None:
            parts = [(group, [run.curves[name] for run in group.runs if name in run.curves]) for group in groups]
            figures.append((chart.title, _overlay(parts, chart.sign)))
    worst = [(group, [least_live_series(run.health) for run in group.runs]) for group in groups]
    worst = [(group, [series for series in found if len(series.steps)]) for group, found in worst]
    if any(series for _, series in worst):
        figures.append(("Live units of the layer with the fewest", _overlay(worst)))
    sranks = [(group, [health_series(run.health, "features", "srank") for run in group.runs]) for group in groups]
    if any(len(series.values) for _, found in sranks for series in found):
        figures.append(("Rank of the features (srank)", _overlay(sranks)))
    return figures


def thinned(series: Series, count: int = MAX_POINTS) -> Series:
    """
    The least and the largest value of each of ``count / 3`` stretches, and NaN, so that no spike is lost.

    :param series: any length
    :param count: at most so many points
    """
    if len(series.values) <= count:
        return series
    edges = np.linspace(0, len(series.values), count // 3 + 1).astype(int)
    kept: set[int] = set()
    for start, end in pairwise(edges):
        stretch = series.values[start:end]
        broken = np.flatnonzero(~np.isfinite(stretch))
        if len(broken):
            kept.add(start + int(broken[0]))
        if len(broken) < len(stretch):
            kept |= {start + int(np.nanargmin(stretch)), start + int(np.nanargmax(stretch))}
    chosen = sorted(kept)
    return Series(series.steps[chosen], series.values[chosen])


def _figure(marks: Iterable[Mark] = ()) -> go.Figure:
    figure = go.Figure(layout={"margin": {"l": 55, "r": 10, "t": 10, "b": 40}, "height": 270, "showlegend": False})
    figure.update_yaxes(exponentformat="e", automargin=True)
    figure.update_xaxes(title={"text": "steps", "standoff": 4})
    colours = {"alarm": "#d62839", "clear": "#2a9d5c", "guard": "#e0a12f", "repair": "#3a6ea5"}
    for mark in _spread(list(marks)):
        line = {"color": colours[mark.kind], "width": 1, "dash": "dot" if mark.kind != "alarm" else "solid"}
        figure.add_shape(type="line", x0=mark.step, x1=mark.step, yref="paper", y0=0, y1=1, line=line, layer="below")
    return figure


def _spread(marks: list[Mark]) -> list[Mark]:
    """Not more lines than one can tell apart; all alarms before what guards and interventions did."""
    alarms = [mark for mark in marks if mark.kind in ("alarm", "clear")][:MAX_MARKS]
    others = [mark for mark in marks if mark.kind not in ("alarm", "clear")]
    room = MAX_MARKS - len(alarms)
    return alarms + (others if len(others) <= room else others[:: -(-len(others) // max(room, 1))][:room])


def _add(
    figure: go.Figure, series: Series, label: str, colour: str, sign: int, markers: bool = False, width: float = 1.6
) -> None:
    shown = thinned(series)
    mode = "lines+markers" if markers or len(shown.values) < 3 else "lines"
    figure.add_scatter(
        x=shown.steps, y=sign * shown.values, name=escape(label), mode=mode, line={"color": colour, "width": width}
    )
    figure.update_layout(showlegend=len(figure.data) > 1, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})


def _overlay(parts: Iterable[tuple[Group, list[Series]]], sign: int = 1) -> go.Figure:
    figure = _figure()
    for index, (group, found) in enumerate(parts):
        colour = COLOURS[index % len(COLOURS)]
        found = [series for series in found if len(series.values)]
        if len(found) < 2:
            for series in found:
                _add(figure, series, group.name, colour, sign)
            continue
        grid, *values = band(found)
        mean, low, high = (sign * value for value in values)
        low, high = np.minimum(low, high), np.maximum(low, high)
        around = np.concatenate([grid, grid[::-1]]), np.concatenate([high, low[::-1]])
        hidden: dict[str, Any] = {"showlegend": False, "hoverinfo": "skip"}
        figure.add_scatter(
            x=around[0], y=around[1], fill="toself", opacity=0.25, line={"width": 0}, fillcolor=colour, **hidden
        )
        for series in found:
            shown = thinned(series, 300)
            line = {"color": colour, "width": 0.6}
            figure.add_scatter(x=shown.steps, y=sign * shown.values, mode="lines", line=line, opacity=0.6, **hidden)
        _add(figure, Series(grid, mean), f"mean of {group.name}", colour, 1, width=2.4)
    figure.update_layout(showlegend=False)  # the page has one legend for all
    return figure


def _map(rows: dict[str, Series], is_bad: bool, reduce: Any) -> go.Figure | None:
    """What runs first is at the top; a column is the worst of its stretch of time."""
    if not rows:
        return None
    lengths = max(rows.values(), key=lambda series: len(series.steps))
    edges = np.unique(np.linspace(0, len(lengths.steps), min(MAX_COLUMNS, len(lengths.steps)), endpoint=False))
    edges = edges.astype(int)
    values: list[Floats] = []
    for series in rows.values():
        aligned = np.full(len(lengths.steps), np.nan)
        aligned[np.searchsorted(lengths.steps, series.steps).clip(0, len(aligned) - 1)] = series.values
        values.append(reduce(aligned, edges))
    figure = _figure()
    figure.add_heatmap(
        x=lengths.steps[edges],
        y=[escape(name) for name in rows],
        z=np.array(values, dtype=np.float32),
        zmin=0.0,
        zmax=1.0,
        colorscale="Viridis",
        reversescale=is_bad,
        colorbar={"thickness": 10, "tickformat": ".0%"},
        hovertemplate="step %{x:,}<br>%{y}: %{z:.0%}<extra></extra>",
    )
    figure.update_layout(height=80 + 28 * len(rows), margin={"l": 130})
    figure.update_yaxes(autorange="reversed")
    return figure
