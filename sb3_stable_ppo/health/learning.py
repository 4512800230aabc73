"""
Whether an agent whose network lives has begun to learn: what its returns show, not how long it has trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from sb3_stable_ppo.health.figures import Figures
from sb3_stable_ppo.health.thresholds import (
    ENOUGH_EPISODES,
    EXPLAINED_VARIANCE,
    FLOOR_MARGIN,
    RESUMED,
    UNSURE_FLOOR_MARGIN,
)
from sb3_stable_ppo.runs.series import Floats, Series, health_series, series


class Returns(NamedTuple):
    """
    The mean return of the last episodes over a run.

    :param steps: environment steps
    :param means: of the last episodes, 100 as SB3 counts them, or fewer at first
    :param errors: standard error of each mean; None where only the means are known
    :param began: at which step the record begins, whatever had ended by then; None: at the first of ``steps``
    """

    steps: Floats
    means: Floats
    errors: Floats | None = None
    began: float | None = None


def early_training(returns: Returns, explained_variance: Series) -> str | None:
    """
    Of a run in which nothing is wrong: why its returns do not show yet that it learns.

    Learning has begun when the mean of the last tenth of the returns stands above their floor, the lowest mean of ten
    tenths, by more than 5% of the floor and 3 standard errors of the difference. Where the errors are not known, as in
    SB3's log, it is 25% and 3 standard deviations of the steps from one return to the next.

    :param returns: over the run
    :param explained_variance: of the critic, over the run
    :return: the evidence; None if learning has begun, or if nobody knows since the run was resumed
    """
    steps, means, errors, began = returns
    if not len(means):
        return f"Fewer than {ENOUGH_EPISODES} finished episodes tell nothing yet."
    if (steps[0] if began is None else began) > RESUMED * steps[-1] and len(means) > 1:
        return None
    stretches = np.array_split(np.arange(len(means)), min(10, len(means)))
    lowest, last = min(stretches, key=lambda rows: float(means[rows].mean())), stretches[-1]
    floor, now = float(means[lowest].mean()), float(means[last].mean())
    if errors is None:
        noise, margin = float(np.diff(means[lowest]).std()) if len(lowest) > 1 else 0.0, UNSURE_FLOOR_MARGIN
    else:
        noise, margin = float(np.hypot(errors[lowest].mean(), errors[last].mean())), FLOOR_MARGIN
    if now - floor > 3 * noise + margin * abs(floor):
        return None
    return f"The return, {now:.4g}, has not left its floor, {floor:.4g}.{_of_critic(explained_variance)}"


def early_model(n_episodes: int) -> str | None:
    """
    The same of a model of which no run folder tells more.

    :param n_episodes: that have ended, as far as it knows: 100 at most
    :return: the evidence; None if there are enough of them: then nobody knows what their returns were before
    """
    return f"Fewer than {ENOUGH_EPISODES} finished episodes tell nothing yet." if n_episodes < ENOUGH_EPISODES else None


def unknown_floor(model: Any) -> str | None:
    """
    What a model itself tells of its return, where no run folder tells more.

    :param model: any of SB3
    :return: in words; None if it knows no episode's return, or one that is not finite
    """
    returns = [float(episode["r"]) for episode in model.ep_info_buffer or () if "r" in episode]
    if not returns or not np.isfinite(returns).all():
        return None
    return (
        f"The last {len(returns)} episodes of training had a mean return of {np.mean(returns):,.4g}. The zip alone "
        "does not tell whether the return has left its floor."
    )


def rollout_figures(model: Any) -> Figures:
    """
    What SB3's ``rollout/ep_rew_mean`` is made from, for a line of ``health.jsonl``.

    :param model: any of SB3
    :return: mean and standard deviation of the last episodes' returns, and their number, 100 at most; empty before the
        first has ended
    """
    returns = [float(episode["r"]) for episode in model.ep_info_buffer or ()]
    if not returns:
        return {}
    return {"ep_rew_mean": float(np.mean(returns)), "ep_rew_std": float(np.std(returns)), "episodes": len(returns)}


def returns_of_health(health: Sequence[Figures]) -> Returns | None:
    """
    :param health: lines of ``health.jsonl``
    :return: of the lines with enough episodes; None of version 0.1.0, whose lines have no returns
    """
    found = [(line["step"], line["rollout"]) for line in health if line.get("rollout")]
    if health and "rollout" not in health[-1]:
        return None
    rows = [
        (step, row["ep_rew_mean"], row["ep_rew_std"] / row["episodes"] ** 0.5) for step, row in found if _counts(row)
    ]
    steps, means, errors = np.array(rows, dtype=np.float64).reshape(-1, 3).T
    return Returns(steps, means, errors, float(health[0]["step"]) if health else None)


def returns_of_log(curve: Series | None) -> Returns:
    """
    :param curve: SB3's ``rollout/ep_rew_mean``, or of evaluations
    :return: what is finite of it
    """
    steps, means = curve or series([])
    finite = np.isfinite(means)
    return Returns(steps[finite], means[finite])


def explained_variance_of(health: Sequence[Figures]) -> Series:
    """
    :param health: lines of ``health.jsonl``
    :return: how much of the returns' variance the critic explains, over the run
    """
    return health_series([*health], "train", "explained_variance")


def _counts(row: Figures) -> bool:
    """JSON has null for what was not finite."""
    known = all(row.get(name) is not None for name in ("episodes", "ep_rew_mean", "ep_rew_std"))
    return known and int(row["episodes"]) >= ENOUGH_EPISODES


def _of_critic(explained_variance: Series) -> str:
    known = explained_variance.values[np.isfinite(explained_variance.values)]
    if not len(known):
        return ""
    recent = float(np.median(known[-ENOUGH_EPISODES:]))
    if recent < EXPLAINED_VARIANCE:
        return f" The critic explains {max(recent, 0):.0%} of the returns' variance: it does not know yet what pays."
    return f" The critic explains {recent:.0%} of the returns' variance: it knows what pays, and the policy comes next."
