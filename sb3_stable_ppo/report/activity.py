"""
Whether the layers of a run stay active, and what it means where one does not: a convolution, a hidden layer that the
actions depend on, or one that serves the critic alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from sb3_stable_ppo.common.layer_names import ACTOR, CONV, CRITIC, is_conv_layer, is_critic_layer, layer_kind
from sb3_stable_ppo.health.alarms import RULES
from sb3_stable_ppo.health.thresholds import DARK
from sb3_stable_ppo.report.check import NO, OPEN, YES, Check, last_tenth
from sb3_stable_ppo.runs.data import RunData
from sb3_stable_ppo.runs.series import Series, live_shares
from sb3_stable_ppo.snapshots.timeline import Timeline

SUSTAINED = 0.5
"""Share of its first live units that a layer has to keep."""
NEARLY_DARK = next(round(1 - rule.clear_at, 6) for rule in RULES if rule.name == "inactive_layer")
"""With no larger share of live units than this, a layer does not clear the alarm of an inactive one."""
FIRST = 3
"""What a layer had at first is the median of so many measurements: a hidden LeakyReLU layer often loses most of its
live units in the first updates and learns well, since the others are linear and pass a gradient."""
DARK_MEANS = {
    CONV: "Where a convolution is dark, the layers behind it see hardly anything of the observation, and cannot learn "
    "from what they do not see.",
    ACTOR: "Where a hidden layer that the actor uses is dark, the actions hardly depend on the observation any more.",
    CRITIC: "Where a layer of the critic alone is dark, the critic gives all states nearly the same value. By itself "
    "that is no collapse: a critic has nothing to tell before rewards differ.",
}
"""What it means that a layer of that kind has hardly any live units."""


def dark_means(layers: Iterable[str]) -> list[str]:
    """
    What it means where layers are dark, once for each kind among them.

    :param layers: their names, as probes give them
    """
    kinds = {CRITIC if is_critic_layer(layer) else layer_kind(layer) for layer in layers}
    return [meaning for kind, meaning in DARK_MEANS.items() if kind in kinds]


def activity_checks(run: RunData, timeline: Timeline) -> list[Check]:
    """
    A check of the convolutions, and one of the hidden layers behind them; of a network without convolutions one of all
    layers. Layers of the critic alone are told of, and decide nothing.

    :param run: to judge
    :param timeline: of its snapshots; it is what tells of activity where there is no HealthCallback
    """
    layers, critics = _judged_and_critics(
        {layer: series for layer, series in live_shares(run.health).items() if len(series.steps)}
    )
    convolutions = {
        layer: series for layer, series in layers.items() if is_conv_layer(layer) or layer in timeline.layers
    }
    hidden = {layer: series for layer, series in layers.items() if layer not in convolutions}
    every = "Activity sustained in every "
    if not layers and timeline.active:  # one loud channel may outshine a layer's others in its pictures
        return [
            _check(f"{every}conv layer", *_judged_and_critics(timeline.active), "active in the snapshots", (0.0, 0.0))
        ]
    if convolutions:
        behind = [_check(f"{every}hidden layer", hidden, critics)] if hidden or critics else []
        return [_check(f"{every}conv layer", convolutions, {}), *behind]
    if layers or critics:
        return [_check(f"{every}{'conv layer' if timeline.layers else 'layer'}", layers, critics)]
    if run.health:
        none = "HealthCallback measured no layer: none has an activation that it can read, or none was finite."
        return [Check(f"{every}layer", OPEN, none)]
    return [Check(f"{every}conv layer", OPEN, "Neither HealthCallback nor snapshots were on.")]


def _judged_and_critics(layers: Mapping[str, Series]) -> tuple[dict[str, Series], dict[str, Series]]:
    """Those that actions depend on, and those of the critic alone."""
    judged = {layer: series for layer, series in layers.items() if not is_critic_layer(layer)}
    return judged, {layer: series for layer, series in layers.items() if layer not in judged}


def _check(
    name: str,
    judged: Mapping[str, Series],
    critics: Mapping[str, Series],
    what: str = "live",
    bounds: tuple[float, float] = (DARK, NEARLY_DARK),
) -> Check:
    dark, nearly = bounds
    every = {**judged, **critics}
    since = {layer: _lost_since(series, dark) for layer, series in every.items()}
    told = ", ".join(_told(layer, series) for layer, series in every.items())
    text = f"Units {what}, at first ({_when(next(iter(every.values())))}) and at the end: {told}."
    lost = [layer for layer in judged if since[layer] is not None]
    flat = [layer for layer in critics if since[layer] is not None]
    low = [layer for layer in judged if layer not in lost and _is_low(judged[layer], nearly)]
    for what_is_lost, found in (("Lost", lost), ("Lost, but of the critic alone and not judged", flat)):
        if found:
            text += f" {what_is_lost}: {', '.join(f'{layer}{since[layer]}' for layer in found)}."
    if low:
        text += f" Close to dark, and below what it was at first: {', '.join(low)}."
    state = NO if lost else YES if judged and not low else OPEN
    return Check(name, state, text, " ".join(dark_means([*lost, *flat])))


def _when(series: Series) -> str:
    """Which steps "at first" means."""
    steps = series.steps[:FIRST]
    return f"median of steps {steps[0]:,.0f} to {steps[-1]:,.0f}" if len(steps) > 1 else f"step {steps[0]:,.0f}"


def _told(layer: str, series: Series) -> str:
    """With the very first measurement, where a fall within the first ones would go unseen."""
    first, last = _ends(series)
    newborn = series.values[0]
    fallen = f" ({newborn:.0%} at step {series.steps[0]:,.0f})" if SUSTAINED * newborn > first else ""
    return f"{layer} {first:.0%} → {last:.0%}{fallen}"


def _ends(series: Series) -> tuple[float, float]:
    """The share of live units at first and at the end; a share that is not a number is none."""
    values = np.nan_to_num(series.values)
    return float(np.median(values[:FIRST])), float(np.median(last_tenth(values)))


def _is_low(series: Series, nearly: float) -> bool:
    first, last = _ends(series)
    return last <= nearly and last < first


def _lost_since(series: Series, dark: float) -> str | None:
    """`` since step N`` where a layer has lost its activity, empty if that step is unknown; None where it has not."""
    first, last = _ends(series)
    if last >= SUSTAINED * first and last > dark:
        return None
    shares = np.nan_to_num(series.values)
    below = series.steps[(shares < SUSTAINED * first) | (shares <= dark)]
    return f" since step {below[0]:,.0f}" if len(below) else ""
