"""
What one expects of a run that goes well, as checks of its data.
"""

from __future__ import annotations

import warnings

import numpy as np

from sb3_stable_ppo.health.thresholds import EXPLAINED_VARIANCE
from sb3_stable_ppo.report.actions import actions_check
from sb3_stable_ppo.report.activity import activity_checks
from sb3_stable_ppo.report.check import NO, OPEN, YES, Check
from sb3_stable_ppo.runs.data import RunData
from sb3_stable_ppo.runs.series import EVALUATION, EXPLAINED, RETURN, Floats, Series
from sb3_stable_ppo.snapshots.timeline import Timeline

ENOUGH = 20
"""Fewer rows of a log than this show neither learning nor spikes."""
TREND = 0.7
"""Kendall's tau of the means of ten stretches of the return, from where on it rises or falls."""
WINDOW, FAR = 25, 10.0
"""A spike is as many times farther from the median of its neighbours as values usually are, and beyond the floor."""
FIRST_UPDATES = 5
"""Not counted: a newborn critic is far off."""
FEW = 0.01
"""Share of updates that may be spikes; one may in any case."""
FLOORS = {
    "train/approx_kl": 0.05,
    "train/clip_fraction": 0.25,
    "train/entropy_loss": 0.25,
    "train/loss": 1.0,
    "train/value_loss": 1.0,
    "train/policy_gradient_loss": 0.05,
    "train/policy_loss": 1.0,
    "train/critic_loss": 1.0,
    "train/actor_loss": 1.0,
}
"""How far a value has to be from its neighbours to be a spike at all; of losses, as far as their median is from 0."""
WIDE = 0.25
"""Share of the largest clip range of a run; where it is annealed below this, nearly every ratio is beyond it."""
HUGE_KL, HUGE_GROWTH = 0.5, 100.0
"""Beyond all measure, for however long: a KL, and a value or critic loss as a multiple of what it was at first."""


def checks_of(run: RunData, timeline: Timeline) -> list[Check]:
    """
    :param run: to judge
    :param timeline: of its snapshots; it is what tells of activity where there is no HealthCallback
    """
    return [*activity_checks(run, timeline), _learning(run), _spikes(run), actions_check(run)]


def _learning(run: RunData) -> Check:
    name = "Gradual learning"
    series = run.curves.get(RETURN) or run.curves.get(EVALUATION)
    if series is None:
        return Check(name, OPEN, "No returns on record.")
    finite = np.isfinite(series.values)
    steps, values = series.steps[finite], series.values[finite]
    if not finite.all():
        return Check(name, NO, f"{(~finite).sum():,} of {len(finite):,} returns on record are not finite.")
    if len(values) < ENOUGH:
        return Check(name, OPEN, f"{len(values)} returns on record; fewer than {ENOUGH} tell nothing.")
    stretches = np.array_split(values, 10)
    means = np.array([stretch.mean() for stretch in stretches])
    first, last, best = means[0], means[-1], means.max()
    enough = 3 * np.concatenate(stretches[:2]).std() + 0.05 * max(abs(first), 1e-9)
    tau, at = _tau(means), int(means.argmax())
    told = f"Mean return {first:.4g} in the first tenth, {last:.4g} in the last"
    if at > 1 and best - first > enough and _tau(means[: at + 1]) >= TREND and best - last > (best - first) / 2:
        by = np.array_split(steps, 10)[at][-1]
        return Check(name, NO, f"{told}: more than half of what was learnt by step {by:,.0f} ({best:.4g}) is lost.")
    if last - first > enough and tau >= TREND:
        return Check(name, YES, f"{told}.")
    if first - last > enough and tau <= -TREND:
        return Check(name, NO, f"{told}: it plays worse than at first.")
    return Check(name, OPEN, f"{told}: no more than chance could do.")


def _tau(values: Floats) -> float:
    """Kendall's, against time: 1 where every value is above all before it, -1 where it is below."""
    pairs = np.sign(np.subtract.outer(values, values))[np.tril_indices(len(values), -1)]
    return float(pairs.mean())


def _spikes(run: RunData) -> Check:
    name = "Metrics without spikes"
    curves = {metric: _judged(run, metric) for metric in FLOORS if metric in run.curves}
    n_rows = max((len(curve.values) for curve in curves.values()), default=0)
    found = {metric: bad for metric in curves if (bad := _unexplained(run, metric, curves[metric]))}
    if not n_rows:
        return Check(name, OPEN, "No metrics of updates on record.")
    if not found:
        few = f"; fewer than {ENOUGH} tell little" if n_rows < ENOUGH else ""
        return Check(name, OPEN if few else YES, f"None in {n_rows:,} rows of the log{few}.")
    worst = max(found, key=lambda metric: len(found[metric]))
    curve = curves[worst]
    at = found[worst][int(np.argmax(np.abs(np.nan_to_num(curve.values[found[worst]], nan=np.inf))))]
    text = f"{len(found[worst])} of {len(curve.values):,} rows of the log in {worst.removeprefix('train/')}"
    text += f", the largest {curve.values[at]:.3g} at step {curve.steps[at]:,.0f}."
    broken = any(not np.isfinite(curves[metric].values).all() for metric in found)
    return Check(name, NO if broken or len(found[worst]) > max(FEW * len(curve.values), 1) else YES, text)


def _unexplained(run: RunData, metric: str, curve: Series) -> list[int]:
    """
    The spikes of a curve. While the critic explains the returns, a larger loss of its own comes from returns that
    differ more, as where a pole that never fell has fallen.
    """
    spikes, explained = spikes_in(curve.values, metric), run.curves.get(EXPLAINED)
    if metric not in ("train/value_loss", "train/loss") or explained is None or not len(explained.values):
        return spikes
    at_spikes = np.interp(curve.steps[spikes], *explained)
    return [
        row
        for row, share in zip(spikes, at_spikes, strict=True)
        if not (share >= EXPLAINED_VARIANCE and np.isfinite(curve.values[row]))
    ]


def _judged(run: RunData, metric: str) -> Series:
    """Of a clip_fraction only the rows in which the clip range had not been annealed away."""
    curve, ranges = run.curves[metric], run.curves.get("train/clip_range")
    if metric != "train/clip_fraction" or ranges is None or not len(ranges.values):
        return curve
    is_wide = np.interp(curve.steps, *ranges) >= WIDE * np.nanmax(ranges.values)
    return Series(curve.steps[is_wide], curve.values[is_wide])


def spikes_in(values: Floats, metric: str) -> list[int]:
    """
    Where values stand out: by ``FAR`` times the usual distance from the median of their ``WINDOW`` neighbours, and by
    the metric's floor; or are beyond all measure, or NaN.

    :param values: one by row of the log
    :param metric: one of ``FLOORS``
    """
    if not len(values):
        return []
    finite = values[np.isfinite(values)]
    size = float(np.median(np.abs(finite))) if len(finite) else 0.0
    floor = max(FLOORS[metric], size) if metric.endswith("loss") and metric != "train/entropy_loss" else FLOORS[metric]
    padded = np.pad(values, WINDOW // 2, mode="symmetric")
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a window without any number the median is none
        windows = np.lib.stride_tricks.sliding_window_view(np.where(np.isfinite(padded), padded, np.nan), WINDOW)
        distances = np.abs(values - np.nanmedian(windows, axis=1))
        usual = np.nanmedian(distances) if len(finite) else 0.0
        far = ~(distances <= max(FAR * usual, floor))
        far |= ~(np.abs(values) <= _bound(finite, metric))
    far[:FIRST_UPDATES] &= ~np.isfinite(values[:FIRST_UPDATES])
    return [int(index) for index in np.flatnonzero(far)]


def _bound(finite: Floats, metric: str) -> float:
    if metric == "train/approx_kl":
        return HUGE_KL
    if metric in ("train/value_loss", "train/critic_loss") and len(finite) >= ENOUGH:
        early = finite[FIRST_UPDATES : max(len(finite) // 10, 2 * FIRST_UPDATES)]
        return HUGE_GROWTH * max(float(np.median(np.abs(early))), FLOORS[metric])
    return float("inf")
