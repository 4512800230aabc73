"""
Whether a run's policy spreads over its actions, and whether it does so because of what it sees.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sb3_stable_ppo.health.thresholds import BALANCED, CONSTANT_POLICY, ONE_ACTION
from sb3_stable_ppo.report.check import NO, OPEN, YES, Check, last_tenth
from sb3_stable_ppo.runs.data import RunData
from sb3_stable_ppo.runs.series import finite, health_series

VARIED = 100 * CONSTANT_POLICY
"""A policy whose variance over states once was as large has told states apart. A newborn one may have less than
``CONSTANT_POLICY`` on the few observations of a short rollout."""

GREEDY = "The policy is greedy in its values, which may hardly be learnt yet: train on, then look again."


class ConstantPolicy(NamedTuple):
    """
    :param state: ``no`` where it told states apart before, ``open`` where it may only be newborn
    :param evidence: its variance over states
    """

    state: str
    evidence: str


def is_greedy(health: list[dict[str, Any]]) -> bool:
    """
    Whether actions are not drawn but chosen by their values, as DQN does. Such a policy may choose one action for as
    long as its values have hardly been learnt, and is no collapsed one.

    :param health: lines of ``health.jsonl``
    """
    policy: dict[str, Any] = next((line["policy"] for line in reversed(health) if line.get("policy")), {})
    return "action_balance" in policy and "entropy_share" not in policy


def constant_policy_of(health: list[dict[str, Any]]) -> ConstantPolicy | None:
    """
    Whether a policy does the same in every state at the end, by the doctor's threshold.

    :param health: lines of ``health.jsonl``
    :return: None if it does not, was not measured, or :func:`is_greedy`: its ``action_balance`` tells the same
    """
    if is_greedy(health):
        return None
    variance = finite(health_series(health, "policy", "policy_variance"))
    if variance is None:
        return None
    last, peak = float(np.median(last_tenth(variance.values))), float(variance.values.max())
    if not last < CONSTANT_POLICY:
        return None
    if peak >= VARIED:
        return ConstantPolicy(NO, f"its variance over states has fallen from {peak:.1e} to {last:.1e}")
    return ConstantPolicy(OPEN, f"its variance over states is {last:.1e}, and never was above {peak:.1e}")


def actions_check(run: RunData) -> Check:
    """
    A policy that does the same in every state is not balanced, however evenly it draws its actions.

    :param run: to judge
    """
    found, constant = _spread(run), constant_policy_of(run.health)
    if constant is None:
        return found
    what = "balanced because it ignores what it sees" if found.state == YES else "the policy ignores what it sees"
    state = NO if NO in (found.state, constant.state) else OPEN
    return found._replace(state=state, text=f"{found.text.removesuffix('.')}; {what}: {constant.evidence}.")


def _spread(run: RunData) -> Check:
    name = "Balanced action distribution"
    balance = health_series(run.health, "policy", "action_balance")
    if len(balance.values):
        share = float(np.median(last_tenth(balance.values)))
        state = YES if share >= BALANCED else NO if not share > ONE_ACTION else OPEN
        text = f"Entropy of the actions over states: {share:.0%} of its maximum at the end."
        if state == NO and is_greedy(run.health):
            return Check(name, OPEN, f"{text} {GREEDY}")
        return Check(name, state, text)
    if "train/std" in run.curves:
        std = run.curves["train/std"].values
        return Check(name, OPEN, f"Continuous actions: standard deviation {std[0]:.3g} → {std[-1]:.3g}.")
    if "train/entropy_loss" in run.curves:
        entropy = -run.curves["train/entropy_loss"].values
        return Check(name, OPEN, f"Not measured over states; entropy {entropy[0]:.3g} → {entropy[-1]:.3g} nats.")
    return Check(name, OPEN, "Nothing on record tells of the actions.")
