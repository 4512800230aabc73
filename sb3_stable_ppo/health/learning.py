"""
Whether an agent whose network lives has begun to learn: what its returns show, not how long it has trained.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sb3_stable_ppo.health.figures import Figures
from sb3_stable_ppo.runs.series import Series, health_series

ENOUGH = 20
"""Returns on record; fewer tell nothing."""
RESUMED = 0.1
"""A record that begins after this share of the steps is of a resumed run, whose floor nobody knows."""
EXPLAINED = 0.5
"""Explained variance from where on a critic knows what is coming."""


def early_training(returns: Series, explained_variance: Series) -> str | None:
    """
    Of a run in which nothing is wrong: why its returns do not show yet that it learns.

    Learning has begun when the mean of the last tenth of the returns stands above their floor, the lowest mean of ten
    tenths, by more than 5% of it and 3 standard deviations of the steps from one return to the next there, which a
    trend leaves small.

    :param returns: mean return of the last episodes, over the run
    :param explained_variance: of the critic, over the run
    :return: the evidence; None if learning has begun, or if nobody knows since the run was resumed
    """
    finite = np.isfinite(returns.values)
    steps, values = returns.steps[finite], returns.values[finite]
    if len(values) and steps[0] > RESUMED * steps[-1] and len(values) >= ENOUGH:
        return None
    if len(values) < ENOUGH:
        return f"{len(values)} returns on record tell nothing yet, fewer than {ENOUGH}."
    stretches = np.array_split(values, 10)
    lowest = min(stretches, key=np.mean)
    floor, last = lowest.mean(), stretches[-1].mean()
    if last - floor > 3 * np.diff(lowest).std() + 0.05 * abs(floor):
        return None
    return f"The return, {last:.4g}, has not left its floor, {floor:.4g}.{_of_critic(explained_variance)}"


def early_model(episode_returns: list[float]) -> str | None:
    """
    The same of a model of which no run folder tells more.

    :param episode_returns: of the last episodes, 100 at most
    :return: the evidence; None if there are enough of them: then nobody knows what they were before
    """
    if len(episode_returns) < ENOUGH:
        return f"{len(episode_returns)} finished episodes tell nothing yet, fewer than {ENOUGH}."
    return None


def returns_of(health: list[Figures]) -> tuple[Series, Series]:
    """
    :param health: lines of ``health.jsonl``
    :return: mean return and explained variance over the run
    """
    returns = health_series(health, "rollout", "ep_rew_mean")
    return returns, health_series(health, "train", "explained_variance")


def rollout_figures(model: Any) -> Figures:
    """
    What SB3's ``rollout/ep_rew_mean`` is made from, for a line of ``health.jsonl``.

    :param model: any of SB3
    :return: empty before the first episode has ended
    """
    episodes = model.ep_info_buffer
    return {"ep_rew_mean": float(np.mean([episode["r"] for episode in episodes]))} if episodes else {}


def _of_critic(explained_variance: Series) -> str:
    known = explained_variance.values[np.isfinite(explained_variance.values)]
    if not len(known):
        return ""
    recent = float(np.median(known[-ENOUGH:]))
    if recent < EXPLAINED:
        return f" The critic explains {max(recent, 0):.0%} of the returns' variance: it does not know yet what pays."
    return f" The critic explains {recent:.0%} of the returns' variance: it knows what pays, and the policy comes next."
