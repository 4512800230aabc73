"""
Schedules in a configuration: ours, and ``lin_`` that ends at zero, not below it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stable_baselines3.common.utils import LinearSchedule

from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.schedules.callback import LRSchedulerCallback
from sb3_stable_ppo.schedules.learning_rate import make_schedule
from sb3_stable_ppo.zoo.hyperparams import class_entries, find_class
from sb3_stable_ppo.zoo.registry import ALGORITHMS


def read_schedules(hyperparams: Mapping[str, Any]) -> dict[str, Any]:
    """
    What rl_zoo3 reads wrong, or not at all: ``learning_rate: {schedule: step, …}``, and ``lin_0.001``.

    :param hyperparams: one entry of a configuration
    :return: the schedules of the keys that have one
    :raises UsageError: if a value is neither
    """
    ready: dict[str, Any] = {}
    for key in ("learning_rate", "clip_range", "clip_range_vf"):
        value = hyperparams.get(key)
        if isinstance(value, dict):
            if key != "learning_rate" or "schedule" not in value:
                raise UsageError(f"{key}: {value} is not a schedule. learning_rate takes {{schedule: step, …}}.")
            ready[key] = make_schedule(**value)
        elif isinstance(value, str):
            prefix, _, initial = value.partition("_")
            try:
                ready[key] = LinearSchedule(float(initial if prefix == "lin" else "?"), 0.0, 1.0)
            except ValueError:
                raise UsageError(f"{key}: {value!r} is neither a number nor lin_ and a number.") from None
    return ready


def check_counted(hyperparams: Mapping[str, Any], algo: str, source: str) -> None:
    """
    Check that somebody counts the updates of a schedule of ours.

    :param hyperparams: one entry of a configuration
    :param algo: the algorithm's name; ours count
    :param source: where the entry comes from, for the error
    :raises UsageError: if nobody does
    """
    schedule = hyperparams.get("learning_rate")
    if algo in ALGORITHMS or not isinstance(schedule, dict):
        return
    callbacks = [find_class(name, f"{source}: callback") for name, _ in class_entries(hyperparams.get("callback"))]
    if not any(issubclass(each, LRSchedulerCallback) for each in callbacks):
        raise UsageError(
            f"{source}: {algo} does not count the updates of learning_rate: {schedule}. Add the callback "
            "sb3_stable_ppo.LRSchedulerCallback, or choose --algo stable_ppo."
        )
