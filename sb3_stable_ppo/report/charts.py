"""
The curves of a page, as plotly's figures: of one run, or of several laid over each other. Data in, figures out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go  # type: ignore[import-untyped]

from sb3_stable_ppo.report.chart_list import CHARTS
from sb3_stable_ppo.report.comparison import Group, band
from sb3_stable_ppo.report.figures import COLOURS, add_curve, blank_figure, thinned
from sb3_stable_ppo.report.marks import marks_of
from sb3_stable_ppo.report.time_axis import Span, span_of
from sb3_stable_ppo.runs.data import RunData
from sb3_stable_ppo.runs.series import Series, health_series, least_live_series


def curve_charts(run: RunData) -> list[tuple[str, go.Figure]]:
    """
    One run: each chart that tells something, with the marks on its time axis.

    :param run: to draw
    """
    figures, marks, span = [], marks_of(run), span_of([run])
    for chart in CHARTS:
        found = chart.found_in(run)
        if chart.tells(found.values()):
            figure = blank_figure(span, marks)
            for index, (label, series) in enumerate(found.items()):
                add_curve(figure, series, label, COLOURS[index], chart.sign, markers="evaluation" in label)
            values = chart.sign * np.concatenate([series.values for series in found.values()])
            if (values == values[0]).all():  # plotly would show -1 to 1 around 1e-4
                figure.update_yaxes(range=sorted([0.0, 2 * float(values[0]) or 1.0]))
            figures.append((chart.title, figure))
    for title, name in (("Rank of the features (srank)", "srank"), ("Norm of the features", "norm")):
        series = health_series(run.health, "features", name)
        if np.isfinite(series.values).sum() > 1:
            figure = blank_figure(span, marks)
            add_curve(figure, series, name, COLOURS[0], 1, markers=name == "srank")
            figures.append((title, figure))
    return figures


def comparison_charts(groups: Sequence[Group]) -> list[tuple[str, go.Figure]]:
    """
    Several runs over each other: a thin line each, and where a group has several seeds their mean and its interval.

    :param groups: of runs
    """
    figures = []
    every = [run for group in groups for run in group.runs]
    span = span_of(every)
    for chart in CHARTS:
        name = next((name for name in chart.curves if all(name in run.curves for run in every)), None)
        name = name or next((name for name in chart.curves if any(name in run.curves for run in every)), None)
        if name is not None and chart.tells([run.curves[name] for run in every if name in run.curves]):
            parts = [(group, [run.curves[name] for run in group.runs if name in run.curves]) for group in groups]
            figures.append((chart.title, _overlay(parts, span, chart.sign)))
    worst = [(group, [least_live_series(run.health) for run in group.runs]) for group in groups]
    sranks = [(group, [health_series(run.health, "features", "srank") for run in group.runs]) for group in groups]
    for title, parts in (("Live units of the layer with the fewest", worst), ("Rank of the features (srank)", sranks)):
        if any(np.isfinite(series.values).sum() > 1 for _, found in parts for series in found):
            figures.append((title, _overlay(parts, span)))
    return figures


def _overlay(parts: Iterable[tuple[Group, list[Series]]], span: Span, sign: int = 1) -> go.Figure:
    figure = blank_figure(span)
    for index, (group, found) in enumerate(parts):
        colour = COLOURS[index % len(COLOURS)]
        found = [series for series in found if len(series.values)]
        if len(found) < 2:
            for series in found:
                add_curve(figure, series, group.name, colour, sign)
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
        add_curve(figure, Series(grid, mean), f"mean of {group.name}", colour, 1, width=2.4)
    figure.update_layout(showlegend=False)  # the page has one legend for all
    return figure
