"""
How often health is measured, of algorithms with a rollout buffer and of those with a replay buffer.
"""

from __future__ import annotations

import warnings

from sb3_stable_ppo.common.checks import whole_number
from sb3_stable_ppo.common.renamed import renamed_argument, warn_of_old_name
from sb3_stable_ppo.runs.interval import Interval

ON_POLICY, OFF_POLICY = Interval(1, "updates"), Interval(1000, "steps")


def health_intervals(
    every: int | None, every_updates: int | None, every_steps: int | None
) -> tuple[Interval, Interval]:
    """
    From the arguments of ``HealthCallback``.

    >>> health_intervals(None, None, None)
    (Interval(number=1, unit='updates'), Interval(number=1000, unit='steps'))

    :param every: environment steps, or None
    :param every_updates: updates, or None
    :param every_steps: the old name of ``every``. Together they are as in version 0.1: rollouts on-policy, steps
        off-policy
    :return: of an on-policy and of an off-policy algorithm
    :raises ValueError: for a number out of range, or more than one interval
    """
    if every_steps is not None:
        every_steps = whole_number(every_steps, "every_steps", 1)
    if every is not None and every_steps is not None and every_updates is None:
        warn_of_old_name(
            "every_steps", "every, which counts environment steps, or every_updates, but not both", stacklevel=4
        )
        return Interval(whole_number(every, "every", 1), "updates"), Interval(every_steps, "steps")
    every = renamed_argument("every_steps", every_steps, "every", every, stacklevel=4)
    given = Interval.of(every, every_updates)
    return given or ON_POLICY, given or OFF_POLICY


def warn_of_short_interval(interval: Interval, rollout: int) -> None:
    """
    Say that fewer steps than a rollout has mean each update: ``every`` counted rollouts in version 0.1.

    :param interval: of an on-policy algorithm
    :param rollout: environment steps of a rollout, in all envs together
    """
    if interval.unit == "steps" and interval.number < rollout:
        warnings.warn(
            f"HealthCallback(every={interval.number}) counts environment steps (rollouts, in version 0.1), of which a "
            f"rollout has {rollout:,}: it measures after each update. To count updates write "
            f"every_updates={interval.number}.",
            stacklevel=2,
        )
