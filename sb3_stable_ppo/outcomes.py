"""
What one expects of a run that goes well, judged from its data: four outcomes, and the verdict of its alarms.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sb3_stable_ppo.health import is_critics
from sb3_stable_ppo.run_data import EVALUATION, RETURN, Floats, RunData, Series, health_series

YES, NO, OPEN = "yes", "no", "open"
SUSTAINED = 0.5
"""Share of its first live units that a layer has to keep."""
DARK = 0.1
"""A layer with fewer live units than this share is dark."""
BALANCED, ONE_ACTION = 0.5, 0.02
"""Entropy of the actions over states, as a share of its maximum; below the latter there is one action."""
WINDOW, FAR = 25, 10.0
"""A spike is as many times farther from the median of its neighbours as values usually are, and beyond the floor."""
FIRST_UPDATES = 5
"""Not counted: a newborn critic is far off."""
FEW = 0.01
"""Share of updates that may be spikes."""
FLOORS = {
    "train/approx_kl": 0.05,
    "train/clip_fraction": 0.25,
    "train/entropy_loss": 0.25,
    "train/loss": 1.0,
    "train/value_loss": 1.0,
    "train/policy_gradient_loss": 0.05,
}
"""How far a value has to be from its neighbours to be a spike at all."""
VERDICT_OF = {
    "nonfinite": "numerically broken",
    "inactive_layer": "collapsed activations",
    "dormant_layer": "collapsed activations",
    "low_rank": "collapsed activations",
    "one_action": "collapsed policy",
    "falling_rank": "dying",
    "growing_norm": "dying",
    "jumping_policy": "unsteady",
}
"""By alarm, the worst first."""


class Outcome(NamedTuple):
    """
    :param name: what is expected
    :param state: ``yes``, ``no`` or ``open``
    :param text: the figure it is judged by
    """

    name: str
    state: str
    text: str


class Verdict(NamedTuple):
    """
    :param word: ``healthy``, ``unknown`` or what is wrong
    :param text: the evidence
    """

    word: str
    text: str

    @property
    def state(self) -> str:
        return {"healthy": YES, "unknown": OPEN}.get(self.word, NO)


def verdict_of(run: RunData, lit: dict[str, Series]) -> Verdict:
    """
    :param run: to judge
    :param lit: by convolution, the share of its channels that are lit in the snapshots
    """
    active = active_alarms(run.health)
    for name, word in VERDICT_OF.items():
        if name in active:
            last: dict[str, Any] = run.health[-1].get("layers", {}).get(active[name].get("where"), {})
            word = "linear network" if name == "inactive_layer" and last.get("fault") == "linear" else word
            return Verdict(word, f"{active[name].get('text', name)}.")
    broken = [name for name, series in run.curves.items() if name in FLOORS and not np.isfinite(series.values).all()]
    if broken:
        step = next(iter(run.curves[broken[0]].steps[~np.isfinite(run.curves[broken[0]].values)]))
        return Verdict("numerically broken", f"{', '.join(broken)} not finite from step {step:,.0f} on.")
    if run.status == "collapsed":
        return Verdict("collapsed", "The run ended with a CollapseError.")
    dark = [name for name, series in lit.items() if len(series.values) and series.values[-1] < DARK]
    if dark:
        return Verdict("collapsed activations", f"{', '.join(dark)}: dark in the last snapshot.")
    if run.health:
        return Verdict("healthy", f"No alarm is raised at step {run.health[-1]['step']:,}.")
    if lit:
        return Verdict("healthy", "All convolutions are lit in the last snapshot. (No HealthCallback was on.)")
    return Verdict("unknown", "Nothing tells of the network's inside: no HealthCallback, no snapshots.")


def active_alarms(health: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """
    Those that were raised and not cleared, by name.

    :param health: lines of ``health.jsonl``
    """
    active: dict[str, dict[str, Any]] = {}
    for line in health:
        for event in line.get("events") or ():
            if event.get("raised"):
                active[str(event.get("name"))] = event
            else:
                active.pop(str(event.get("name")), None)
    return active


def outcomes_of(run: RunData, lit: dict[str, Series]) -> list[Outcome]:
    """
    :param run: to judge
    :param lit: as for :func:`verdict_of`, where there is no HealthCallback
    """
    return [_activity(run, lit), _learning(run), _spikes(run), _actions(run)]


def live_shares(health: list[dict[str, Any]]) -> dict[str, Series]:
    """
    By layer, the share of its units that are live.

    :param health: lines of ``health.jsonl``
    """
    names: dict[str, None] = {}
    for line in health:
        names.update(dict.fromkeys(line.get("layers") or {}))
    shares = {}
    for name in names:
        live, units = (health_series(health, "layers", name, key) for key in ("live", "units"))
        shares[name] = Series(live.steps, live.values / np.maximum(units.values, 1))
    return shares


def _activity(run: RunData, lit: dict[str, Series]) -> Outcome:
    name = "Activity sustained in every conv layer"
    layers = {layer: series for layer, series in live_shares(run.health).items() if not is_critics(layer)}
    convolutions = {layer: series for layer, series in layers.items() if "conv" in layer or layer in lit}
    shown, what = convolutions or layers or lit, "live" if layers else "lit in the snapshots"
    if not shown:
        return Outcome(name, OPEN, "Neither HealthCallback nor snapshots were on.")
    if not convolutions and not lit:
        name = "Activity sustained in every layer (there is no convolution)"
    texts, lost = [], []
    for layer, series in shown.items():
        first, last = np.median(series.values[:3]), np.median(_end(series.values))
        texts.append(f"{layer} {first:.0%} → {last:.0%}")
        if not (last >= SUSTAINED * first and last >= DARK):
            below = series.steps[~(series.values >= max(SUSTAINED * first, DARK))]
            lost.append(f"{layer} since step {below[0]:,.0f}" if len(below) else layer)
    text = f"Units {what}, at first and at the end: {', '.join(texts)}."
    return Outcome(name, NO if lost else YES, f"{text} Lost: {', '.join(lost)}." if lost else text)


def _learning(run: RunData) -> Outcome:
    name = "Gradual learning"
    series = run.curves.get(RETURN) or run.curves.get(EVALUATION)
    if series is None or len(series.values) < 5:
        return Outcome(name, OPEN, "Too few returns on record.")
    values = series.values[np.isfinite(series.values)]
    size = max(len(values) // 10, 1)
    first, last = values[:size].mean(), values[-size:].mean()
    means = np.convolve(values, np.ones(size) / size, "valid")
    best = means.max()
    enough = 3 * values[:size].std() + 0.02 * max(abs(first), 1e-9)
    told = f"Mean return {first:.4g} in the first tenth, {last:.4g} in the last"
    if best - first > enough and best - last > (best - first) / 2:
        at = series.steps[int(means.argmax()) + size - 1]
        return Outcome(name, NO, f"{told}: more than half of what was learnt by step {at:,.0f} ({best:.4g}) is lost.")
    if last - first > enough:
        return Outcome(name, YES, f"{told}.")
    if first - last > enough:
        return Outcome(name, NO, f"{told}: it plays worse than at first.")
    return Outcome(name, OPEN, f"{told}: nothing that chance could not do (Pong: not before some 500,000 steps).")


def _spikes(run: RunData) -> Outcome:
    name = "Metrics without spikes"
    found, n_updates = {}, 0
    for metric, floor in FLOORS.items():
        if metric in run.curves:
            spikes = spikes_in(run.curves[metric].values, floor)
            n_updates = max(n_updates, len(run.curves[metric].values))
            if len(spikes):
                found[metric] = spikes
    if not n_updates:
        return Outcome(name, OPEN, "No metrics of updates on record.")
    if not found:
        return Outcome(name, YES, f"None in {n_updates:,} updates on record.")
    worst = max(found, key=lambda metric: len(found[metric]))
    curve = run.curves[worst]
    at = found[worst][int(np.nanargmax(np.abs(np.nan_to_num(curve.values[found[worst]], nan=np.inf))))]
    text = f"{len(found[worst])} of {len(curve.values):,} updates in {worst.removeprefix('train/')}"
    text += f", the largest {curve.values[at]:.3g} at step {curve.steps[at]:,.0f}."
    broken = any(not np.isfinite(run.curves[metric].values).all() for metric in found)
    return Outcome(name, NO if broken or len(found[worst]) > FEW * len(curve.values) else YES, text)


def spikes_in(values: Floats, floor: float) -> list[int]:
    """
    Where values stand out: by ``FAR`` times the usual distance from the median of their ``WINDOW`` neighbours, and by
    ``floor``; or are no numbers.

    :param values: one by update
    :param floor: the least distance
    """
    if not len(values):
        return []
    padded = np.pad(values, WINDOW // 2, mode="edge")
    finite = np.where(np.isfinite(padded), padded, np.nan)
    with np.errstate(all="ignore"):
        windows = np.lib.stride_tricks.sliding_window_view(finite, WINDOW)
        medians = np.array([np.median(window[~np.isnan(window)]) if not np.isnan(window).all() else np.nan
                            for window in windows])  # fmt: skip
        distances = np.abs(values - medians)
        usual = np.nanmedian(distances) if np.isfinite(distances).any() else 0.0
        far = ~(distances <= max(FAR * usual, floor))
    far[:FIRST_UPDATES] &= ~np.isfinite(values[:FIRST_UPDATES])
    return [int(index) for index in np.flatnonzero(far)]


def _actions(run: RunData) -> Outcome:
    name = "Balanced action distribution"
    balance = health_series(run.health, "policy", "action_balance")
    if len(balance.values):
        share = float(np.median(_end(balance.values)))
        state = YES if share >= BALANCED else NO if not share > ONE_ACTION else OPEN
        return Outcome(name, state, f"Entropy of the actions over states: {share:.0%} of its maximum at the end.")
    if "train/std" in run.curves:
        std = run.curves["train/std"].values
        return Outcome(name, OPEN, f"Continuous actions: standard deviation {std[0]:.3g} → {std[-1]:.3g}.")
    if "train/entropy_loss" in run.curves:
        entropy = -run.curves["train/entropy_loss"].values
        return Outcome(name, OPEN, f"No HealthCallback was on; entropy {entropy[0]:.3g} → {entropy[-1]:.3g} nats.")
    return Outcome(name, OPEN, "Nothing on record tells of the actions.")


def _end(values: Floats) -> Floats:
    """The last tenth."""
    return values[-max(len(values) // 10, 1) :]
