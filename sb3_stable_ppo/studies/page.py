"""
A study as a page: Optuna's own plots, one beneath the other, in one file that opens offline.
"""

from __future__ import annotations

import html
import warnings
from collections.abc import Callable
from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import TrialState

STYLE = "body{font-family:system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem}"
ENOUGH = 2
"""Completed trials without which a plot of parameters shows nothing."""


def page_of(study: Study) -> str | None:
    """
    :param study: of one objective or two
    :return: HTML; None if plotly is not installed, or there is nothing to show
    """
    try:
        import plotly.io  # type: ignore[import-untyped]
    except ImportError:
        return None
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < ENOUGH:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of parameters that few trials have
        figures = [plot(study) for plot in (_of_two if len(study.directions) > 1 else _of_one)()]
    parts = [
        plotly.io.to_html(figure, full_html=False, include_plotlyjs=not number) for number, figure in enumerate(figures)
    ]
    name = html.escape(study.study_name)
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{name}</title><style>{STYLE}</style>'
    return f"{head}<h1>{name}</h1>{''.join(parts)}</html>"


def _of_one() -> list[Callable[[Study], Any]]:
    plots = optuna.visualization
    return [
        plots.plot_optimization_history,
        plots.plot_intermediate_values,
        plots.plot_param_importances,
        plots.plot_parallel_coordinate,
        plots.plot_slice,
        plots.plot_timeline,
    ]


def _of_two() -> list[Callable[[Study], Any]]:
    plots = optuna.visualization
    names = ["return", "least share of live units"]

    def front(study: Study) -> Any:
        return plots.plot_pareto_front(study, target_names=names)

    def importances(index: int) -> Callable[[Study], Any]:
        return lambda study: plots.plot_param_importances(
            study, target=lambda trial: trial.values[index], target_name=names[index]
        )

    return [front, importances(0), importances(1), plots.plot_timeline]
