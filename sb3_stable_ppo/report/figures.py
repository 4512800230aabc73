"""
What the page's figures have in common: the time axis with its marks, and curves that keep every spike when thinned.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from itertools import pairwise

import numpy as np
import plotly.graph_objects as go  # type: ignore[import-untyped]

from sb3_stable_ppo.report.marks import Mark, most_telling
from sb3_stable_ppo.report.time_axis import Span
from sb3_stable_ppo.runs.series import Series

MAX_POINTS = 1000
"""Of a curve on the page; longer ones keep the least and the largest value of each stretch."""
COLOURS = ("#2f6fde", "#e0762f", "#2a9d5c", "#b5489a", "#8a6d3b", "#5b5fc7", "#c23b3b", "#3a9aa8")


def blank_figure(span: Span, marks: Iterable[Mark] = ()) -> go.Figure:
    """
    :param span: of its time axis
    :param marks: on that axis
    """
    figure = go.Figure(layout={"margin": {"l": 55, "r": 20, "t": 10, "b": 40}, "height": 270, "showlegend": False})
    apart = {"ticks": "outside", "ticklen": 5, "tickcolor": "rgba(0,0,0,0)"}  # the labels that meet in the corner
    figure.update_yaxes(exponentformat="e", automargin=True, **apart)
    figure.update_xaxes(title={"text": "steps", "standoff": 4}, range=list(span), **apart)
    colours = {"alarm": "#d62839", "clear": "#2a9d5c", "guard": "#e0a12f", "repair": "#3a6ea5"}
    for mark in most_telling(list(marks)):
        line = {"color": colours[mark.kind], "width": 1, "dash": "dot" if mark.kind != "alarm" else "solid"}
        figure.add_shape(type="line", x0=mark.step, x1=mark.step, yref="paper", y0=0, y1=1, line=line, layer="below")
    return figure


def add_curve(
    figure: go.Figure, series: Series, label: str, colour: str, sign: int, markers: bool = False, width: float = 1.6
) -> None:
    """
    :param figure: to draw in
    :param series: to draw
    :param label: in the legend
    :param colour: CSS's
    :param sign: -1 turns the curve over
    :param markers: whether each point is marked too
    :param width: of the line, in pixels
    """
    shown = thinned(series)
    mode = "lines+markers" if markers or len(shown.values) < 3 else "lines"
    figure.add_scatter(
        x=shown.steps,
        y=sign * shown.values,
        name=escape(label),
        mode=mode,
        line={"color": colour, "width": width},
        cliponaxis=mode == "lines",  # a marker at the end of the axis is whole
    )
    figure.update_layout(showlegend=len(figure.data) > 1, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})


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
