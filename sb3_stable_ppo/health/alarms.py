"""
Alarms over a run's health figures: raised when a figure stays beyond a threshold, cleared when it is back well within.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any, NamedTuple

from sb3_stable_ppo.common.layer_names import is_critic_layer
from sb3_stable_ppo.health.figures import Figures
from sb3_stable_ppo.health.thresholds import (
    DORMANT_LAYER,
    FALLING_RANK,
    FEW_INPUTS,
    GROWING_NORM,
    INACTIVE_LAYER,
    JUMPING_POLICY,
    LOW_RANK,
    ONE_ACTION,
)

FULL = 5
"""An srank from which on the alarm of a low one is over."""
EARLY = 5
"""So many first measurements are what later norms are compared with."""


class Symptom(NamedTuple):
    """A figure, and the layer that shows it; no layer where it is the whole network's."""

    value: float
    where: str = ""


class Event(NamedTuple):
    """
    An alarm that was raised or cleared.

    :param name: of its rule
    :param raised: or cleared
    :param step: environment steps when it went wrong: at the first of the measurements in a row; or when it cleared
    :param where: the layer, if it is one's
    :param value: the figure when the alarm was raised or cleared
    :param text: in words
    """

    name: str
    raised: bool
    step: int
    where: str
    value: float
    text: str


@dataclass(frozen=True)
class AlarmRule:
    """
    :param name: of the alarm
    :param find: the figure in question, from a line of ``health.jsonl``; None where it was not measured
    :param raise_at: the alarm is raised at this value and beyond, after ``patience`` measurements in a row
    :param clear_at: and cleared only here: in between it stays as it is
    :param patience: measurements in a row
    :param meaning: what it means, with ``{where}``, ``{value}`` and ``{share}`` (in percent)
    """

    name: str
    find: Callable[[Figures, float], Symptom | None]
    raise_at: float
    clear_at: float
    patience: int
    meaning: str

    def is_beyond(self, value: float, bound: float) -> bool:
        """Above where large values are bad, below where small ones are; NaN is beyond."""
        return not value < bound if self.raise_at > self.clear_at else not value > bound


def _number(value: Any) -> float:
    """NaN is null in ``health.jsonl``."""
    return math.nan if value is None else float(value)


def _first_layer(name: str) -> Callable[[Figures, float], Symptom | None]:
    """The first layer that reaches the bound, in the order in which layers run (a critic's own are passed over)."""

    def find(figures: Figures, bound: float) -> Symptom | None:
        layers = {where: layer for where, layer in figures.get("layers", {}).items() if not is_critic_layer(where)}
        found = [Symptom(_number(layer[name]), where) for where, layer in layers.items() if name in layer]
        return next((symptom for symptom in found if not symptom.value < bound), max(found, default=None))

    return find


def _at(part: str, name: str) -> Callable[[Figures, float], Symptom | None]:
    def find(figures: Figures, bound: float) -> Symptom | None:  # noqa: ARG001
        value = (figures.get(part) or {}).get(name)
        return None if value is None else Symptom(float(value), str(figures[part].get("layer", "")))

    return find


def _balance(figures: Figures, bound: float) -> Symptom | None:
    """Of policies that draw: one that is greedy in values it has hardly learnt chooses one action too, as DQN does."""
    return _at("policy", "action_balance")(figures, bound) if "entropy_share" in figures.get("policy", {}) else None


def _rank(name: str) -> Callable[[Figures, float], Symptom | None]:
    """
    A rank says nothing where the observations have hardly more numbers themselves: of networks that learn CartPole,
    with its four, it may fall to 14% of its peak while the return rises (docs/metrics.md).
    """
    find_rank = _at("features", name)

    def find(figures: Figures, bound: float) -> Symptom | None:
        inputs = (figures.get("features") or {}).get("inputs", FEW_INPUTS)
        return find_rank(figures, bound) if inputs >= FEW_INPUTS else None

    return find


def _full_or_low(figures: Figures, bound: float) -> Symptom | None:
    """Features of 2 to 4 numbers cannot have a larger srank than that: as many as there can be is no low one."""
    symptom, width = _rank("srank")(figures, bound), (figures.get("features") or {}).get("width", math.inf)
    is_full = symptom is not None and 1 < width <= symptom.value
    return symptom._replace(value=max(symptom.value, FULL)) if symptom is not None and is_full else symptom


def _kl(figures: Figures, bound: float) -> Symptom | None:
    return _at("train", "kl")(figures, bound) or _at("update", "kl")(figures, bound)


def _nonfinite(figures: Figures, bound: float) -> Symptom | None:  # noqa: ARG001
    return Symptom(float(figures.get("nonfinite") is not None), str(figures.get("nonfinite") or ""))


RULES = (
    AlarmRule("nonfinite", _nonfinite, 1.0, 0.5, 1, "the network is numerically broken: {where}"),
    AlarmRule(
        "inactive_layer",
        _first_layer("fault_fraction"),
        INACTIVE_LAYER,
        0.8,
        3,
        "{share} of the units of {where} are {fault}",
    ),
    AlarmRule(
        "dormant_layer",
        _first_layer("dormant_fraction"),
        DORMANT_LAYER,
        0.8,
        3,
        "{share} of the units of {where} are dormant",
    ),
    AlarmRule("low_rank", _full_or_low, LOW_RANK, FULL - 1, 2, "the features of {where} have an srank of {value:.0f}"),
    AlarmRule(
        "falling_rank",
        _rank("srank_share"),
        FALLING_RANK,
        0.4,
        3,
        "the srank of {where} has fallen to {share} of its peak",
    ),
    AlarmRule(
        "growing_norm",
        _at("features", "norm_growth"),
        GROWING_NORM,
        5.0,
        3,
        "the features of {where} are {value:.1f} times as large as at first",
    ),
    AlarmRule("one_action", _balance, ONE_ACTION, 0.05, 3, "nearly one action in all states"),
    AlarmRule("jumping_policy", _kl, JUMPING_POLICY, 0.3, 2, "an update moved the policy by a KL of {value:.3g}"),
)
"""What they mean is in docs/health.md."""


@dataclass
class Alarms:
    """
    Watches a run, line by line.

    :param rules: what to watch for
    """

    rules: tuple[AlarmRule, ...] = RULES
    active: dict[str, Event] = field(default_factory=dict)
    """The alarms that are raised now, by name."""
    comparisons: dict[str, float] = field(default_factory=dict)
    """Of the last line: ``norm_growth``, the norm of the features divided by that of the first lines, and
    ``srank_share``, their srank as a share of its peak; each where it was measured."""
    _streaks: dict[str, tuple[int, int]] = field(default_factory=dict)
    _early_norms: list[float] = field(default_factory=list)
    _peak_srank: int = 0

    @property
    def is_quiet(self) -> bool:
        """Whether no alarm is raised, nor about to be."""
        return not self.active and not self._streaks

    def update(self, step: int, figures: Figures) -> list[Event]:
        """
        Take the next line, and leave in ``comparisons`` how it compares with those before.

        :param step: environment steps so far
        :param figures: a line of ``health.jsonl``
        :return: what is raised or cleared by it
        """
        features = figures.get("features") or {}
        self.comparisons = self._compare_with_before(features)
        compared = {**figures, "features": {**features, **self.comparisons}}
        found = [self._update(rule, step, compared) for rule in self.rules]
        return [event for event in found if event is not None]

    def _compare_with_before(self, features: Mapping[str, Any]) -> dict[str, float]:
        comparisons = {}
        if features.get("norm") is not None:
            if len(self._early_norms) < EARLY:
                self._early_norms.append(features["norm"])
            comparisons["norm_growth"] = features["norm"] / max(median(self._early_norms), 1e-12)
        if features.get("srank") is not None:
            self._peak_srank = max(self._peak_srank, features["srank"])
            comparisons["srank_share"] = features["srank"] / max(self._peak_srank, 1)
        return comparisons

    def _update(self, rule: AlarmRule, step: int, figures: Figures) -> Event | None:
        symptom = rule.find(figures, rule.raise_at)
        if symptom is None:
            return None
        value = symptom.value
        if rule.name in self.active:
            if rule.is_beyond(value, rule.clear_at):
                return None
            raised = self.active.pop(rule.name)
            text = f"{rule.name} is over at step {step:,} (raised at step {raised.step:,})"
            return Event(rule.name, False, step, symptom.where, value, text)
        if not rule.is_beyond(value, rule.raise_at):
            self._streaks.pop(rule.name, None)
            return None
        count, since = self._streaks.get(rule.name, (0, step))
        self._streaks[rule.name] = count + 1, since
        if count + 1 < rule.patience:
            return None
        del self._streaks[rule.name]
        fault = figures.get("layers", {}).get(symptom.where, {}).get("fault", "")
        meaning = rule.meaning.format(where=symptom.where, value=value, share=f"{value:.0%}", fault=fault)
        event = Event(rule.name, True, since, symptom.where, value, f"{meaning} (since step {since:,})")
        self.active[rule.name] = event
        return event
