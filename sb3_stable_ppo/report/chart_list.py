"""
Which figures of a log have a chart, and what becomes of a chart that would show nothing: left out, or a fact in words.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from sb3_stable_ppo.runs.data import RunData
from sb3_stable_ppo.runs.series import EVALUATION, RETURN, Floats, Series


class Chart(NamedTuple):
    """
    :param title: shown above
    :param curves: SB3's names and what to call them; of several runs the first that all have is drawn
    :param sign: -1 turns a curve over
    :param is_setting: whether a run sets these figures rather than measures them: where they never change they are a
        fact, and no chart
    :param trivial: the value at which such a figure is not even a fact
    :param rounding: how far from it a figure still is that value
    """

    title: str
    curves: dict[str, str]
    sign: int = 1
    is_setting: bool = False
    trivial: float | None = None
    rounding: float = 0.0

    @property
    def noun(self) -> str:
        """The title within a sentence."""
        return self.title if self.title[:2].isupper() else self.title[0].lower() + self.title[1:]

    def found_in(self, run: RunData) -> dict[str, Series]:
        """The curves that a run has, by what to call them."""
        return {label: run.curves[name] for name, label in self.curves.items() if name in run.curves}

    def tells(self, found: Iterable[Series]) -> bool:
        """
        Whether curves are worth a chart: one of them has two finite points, and a setting changes.

        :param found: this chart's curves, of one run or of several
        """
        known = [_finite(series) for series in found]
        is_settled = self.is_setting and all(_is_constant(values) or self.is_trivial(values) for values in known)
        return any(len(values) > 1 for values in known) and not is_settled

    def is_trivial(self, values: Floats) -> bool:
        """
        Whether all are not even a fact.

        :param values: of the figure
        """
        return self.trivial is not None and bool((abs(values - self.trivial) <= self.rounding).all())


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
    Chart("Entropy coefficient", {"train/ent_coef": "ent_coef"}, is_setting=True),
    Chart("Exploration rate", {"rollout/exploration_rate": "exploration rate"}, is_setting=True),
    Chart("Clip range", {"train/clip_range": "clip range"}, is_setting=True),
    Chart("Learning rate", {"train/learning_rate": "learning rate"}, is_setting=True),
    Chart("Learning-rate scale", {"guards/lr_scale": "what the guards leave of it"}, is_setting=True, trivial=1.0),
    Chart(
        "Error of the first ratio",
        {"norm/first_ratio_error": "largest |ratio - 1|"},
        is_setting=True,
        trivial=0.0,
        rounding=1e-4,
    ),
)


def constants_of(run: RunData) -> str:
    """
    The settings that never changed in a run and have no chart for that, such as ``learning rate 0.0001``; empty if
    there are none.

    :param run: whose
    """
    told = []
    for chart in CHARTS:
        for series in list(chart.found_in(run).values())[:1] if chart.is_setting else []:
            values = _finite(series)
            if len(values) and _is_constant(values) and not chart.is_trivial(values):
                told.append(f"{chart.noun} {values[0]:.4g}")
    return ", ".join(told)


def single_points_of(run: RunData) -> str:
    """
    What a run has measured once only, which is no curve; empty if there is nothing.

    :param run: whose
    """
    told = []
    for chart in CHARTS:
        known = [_finite(series) for series in chart.found_in(run).values()]
        first = next((values for values in known if len(values)), None)
        if first is not None and not chart.is_setting and all(len(values) < 2 for values in known):
            told.append(f"{chart.noun} {chart.sign * first[0]:.4g}")
    return ", ".join(told)


def _finite(series: Series) -> Floats:
    return series.values[np.isfinite(series.values)]


def _is_constant(values: Floats) -> bool:
    return bool((values == values[:1]).all())
