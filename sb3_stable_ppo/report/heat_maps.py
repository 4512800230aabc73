"""
The health of a run's layers as heat maps: a row is a layer, a column a stretch of time.
"""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go  # type: ignore[import-untyped]

from sb3_stable_ppo.report.figures import blank_figure
from sb3_stable_ppo.report.time_axis import Span, edges_of, span_of
from sb3_stable_ppo.runs.data import RunData
from sb3_stable_ppo.runs.series import Floats, Series, health_series, live_shares

MAX_COLUMNS = 300
BRIGHT_IS_GOOD = "Bright is good and dark is bad in each map: many live units, few dormant ones, a high rank."


def health_maps(run: RunData, span: Span | None = None) -> list[tuple[str, go.Figure]]:
    """
    Layer by time: the shares of live and of dormant units, and the rank as a share of the layer's highest.

    :param run: to draw
    :param span: of the time axis; None: the run's own
    """
    live = live_shares(run.health)
    dormant = {name: health_series(run.health, "layers", name, "dormant_fraction") for name in live}
    sranks = {name: health_series(run.health, "layers", name, "srank") for name in live}
    # of a single measurement each layer has its highest, which tells nothing
    ranks = {
        name: Series(s.steps, s.values / max(s.values.max(), 1)) for name, s in sranks.items() if len(s.values) > 1
    }
    span = span or span_of([run])
    end = max(run.steps, span.start + 1)
    maps = [
        ("Live units", _map(live, False, np.fmin.reduceat, span, end)),
        ("Dormant units (tau 0.025)", _map(dormant, True, np.fmax.reduceat, span, end)),
        ("Rank, share of the layer's highest", _map(ranks, False, np.fmin.reduceat, span, end)),
    ]
    return [(title, figure) for title, figure in maps if figure is not None]


def _map(rows: dict[str, Series], is_bad: bool, reduce: Any, span: Span, end: float) -> go.Figure | None:
    """What runs first is at the top; a column is the worst of its stretch of time, and the last ends with the run."""
    steps = max((series.steps for series in rows.values()), key=len, default=np.empty(0))
    if not len(steps):
        return None
    firsts = np.unique(np.linspace(0, len(steps), min(MAX_COLUMNS, len(steps)), endpoint=False).astype(int))
    values: list[Floats] = []
    for series in rows.values():
        aligned = np.full(len(steps), np.nan)
        aligned[np.searchsorted(steps, series.steps).clip(0, len(aligned) - 1)] = series.values
        values.append(reduce(aligned, firsts))
    figure = blank_figure(span)
    figure.add_heatmap(
        x=edges_of(steps, Span(span.start, end))[[*firsts, len(steps)]],
        y=[escape(name) for name in rows],
        z=np.array(values, dtype=np.float32),
        customdata=np.tile(steps[firsts].astype(int), (len(rows), 1)),
        zmin=0.0,
        zmax=1.0,
        colorscale="Viridis",
        reversescale=is_bad,
        colorbar={"thickness": 10, "tickformat": ".0%"},
        hovertemplate="step %{customdata:,}<br>%{y}: %{z:.0%}<extra></extra>",
    )
    figure.update_layout(height=80 + 28 * len(rows), margin={"l": 10})
    figure.update_yaxes(autorange="reversed")
    return figure
