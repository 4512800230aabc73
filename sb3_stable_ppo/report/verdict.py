"""
The verdict on a run, from its alarms, its log, its last snapshot and how it ended.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from sb3_stable_ppo.common.layer_names import is_critic_layer
from sb3_stable_ppo.health.alarms import RULES, Alarms
from sb3_stable_ppo.health.learning import early_training, explained_variance_of, returns_of_health, returns_of_log
from sb3_stable_ppo.health.thresholds import (
    DARK,
    GOOD_VERDICTS,
    OPEN_VERDICTS,
    VERDICT_OF,
    verdict_of_alarm,
)
from sb3_stable_ppo.report.actions import constant_policy_of
from sb3_stable_ppo.report.activity import SUSTAINED
from sb3_stable_ppo.report.check import NO, OPEN, YES
from sb3_stable_ppo.runs.data import RunData
from sb3_stable_ppo.runs.series import EVALUATION, EXPLAINED, RETURN, active_alarms
from sb3_stable_ppo.snapshots.timeline import Timeline

OF_THE_NETWORK = tuple(
    rule for rule in RULES if rule.name in ("inactive_layer", "dormant_layer", "low_rank", "one_action")
)
"""Alarms on what a network is, not on how it moves: one look shows it."""


class Verdict(NamedTuple):
    """
    :param word: one of ``health.thresholds.VERDICTS``
    :param text: the evidence
    """

    word: str
    text: str

    @property
    def state(self) -> str:
        """``yes``, ``no`` or ``open``, as a check's."""
        return YES if self.word in GOOD_VERDICTS else OPEN if self.word in OPEN_VERDICTS else NO


def verdict_of(run: RunData, timeline: Timeline) -> Verdict:
    """
    :param run: to judge
    :param timeline: of its snapshots
    """
    active = {**_unconfirmed(run), **active_alarms(run.health)}
    for name in [name for name in VERDICT_OF if name in active]:
        layer: dict[str, Any] = run.health[-1].get("layers", {}).get(str(active[name].get("where")), {})
        word = verdict_of_alarm(name, str(layer.get("fault")))
        return Verdict(word, f"{active[name].get('text', name)}.")
    if active:  # of a version that knows more alarms than this one
        name, event = next(iter(active.items()))
        return Verdict(f"alarm: {name}", f"{event.get('text', name)}.")
    broken = [name for name, layer in timeline.layers.items() if layer.broken[-1]]
    if broken:
        return Verdict("numerically broken", f"{', '.join(broken)}: not finite in the last snapshot.")
    for name, curve in run.curves.items():
        if name == EXPLAINED:  # not a number either where all returns are equal, as before the first reward
            continue
        if name.startswith("train/") and not np.isfinite(curve.values[-1:]).all():
            first = curve.steps[~np.isfinite(curve.values)][0]
            return Verdict("numerically broken", f"{name} is not finite at the end, at first at step {first:,.0f}.")
    if run.status == "collapsed":
        return Verdict("collapsed", str(run.facts.get("error") or "The run ended with a CollapseError."))
    dark = [
        name
        for name, active in timeline.active.items()
        if not is_critic_layer(name) and active.values[-1] < min(DARK, SUSTAINED * active.values.max())
    ]
    if dark:
        return Verdict("collapsed activations", f"{', '.join(dark)}: dark in the last snapshot.")
    constant = constant_policy_of(run.health)
    if constant is not None and constant.state == NO:
        return Verdict(VERDICT_OF["constant_policy"], f"The policy does the same in every state: {constant.evidence}.")
    if run.status == "failed":
        return Verdict("failed", str(run.facts.get("error") or "The run ended with an error."))
    if run.health:
        good, early = _good(run)
        return Verdict(good, f"No alarm is raised at step {run.health[-1]['step']:,}.{early}")
    if timeline.layers:
        good, early = _good(run)
        return Verdict(good, f"All convolutions are active in the last snapshot. (No HealthCallback was on.){early}")
    return Verdict("unknown", "Nothing tells of the network's inside: no HealthCallback, no snapshots.")


def _unconfirmed(run: RunData) -> dict[str, Any]:
    """
    Of a run with fewer measurements than alarms wait for: what each of them has shown. The doctor, who looks at the
    final model alone, says the same.
    """
    if len(run.health) >= max(rule.patience for rule in OF_THE_NETWORK):
        return {}
    alarms = Alarms(tuple(replace(rule, patience=1) for rule in OF_THE_NETWORK))
    for line in run.health:
        alarms.update(line["step"], line)
    return {name: event._asdict() for name, event in alarms.active.items()}


def _good(run: RunData) -> tuple[str, str]:
    """``healthy``; or, as the doctor has it, ``early training``, and why the returns do not show yet that it learns."""
    returns = returns_of_health(run.health) if run.health else None
    if returns is None:  # a run without HealthCallback, or of version 0.1.0
        returns = returns_of_log(run.curves.get(RETURN) or run.curves.get(EVALUATION))
    evidence = early_training(returns, run.curves.get(EXPLAINED, explained_variance_of(run.health)))
    return ("healthy", "") if evidence is None else ("early training", f" {evidence}")
