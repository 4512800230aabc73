"""
Schedules in a configuration: ours, and ``lin_`` that ends at zero, not below it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import LinearSchedule

from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.schedules.callback import LRSchedulerCallback
from sb3_stable_ppo.schedules.learning_rate import counting_schedule, make_schedule
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


def check_counted(schedule: Any, algo: str, callbacks: Iterable[BaseCallback], source: str) -> None:
    """
    Check that somebody counts the updates of a schedule of ours.

    :param schedule: ``learning_rate``, read
    :param algo: the algorithm's name; ours count
    :param callbacks: of the configuration
    :param source: where the schedule comes from, for the error
    :raises UsageError: if nobody does
    """
    if algo in ALGORITHMS or counting_schedule(schedule) is None:
        return
    if not any(isinstance(each, LRSchedulerCallback) for each in callbacks):
        raise UsageError(
            f"{source}: {algo} does not count the updates of learning_rate: {schedule!r}. Add the callback "
            "sb3_stable_ppo.LRSchedulerCallback, or choose --algo stable_ppo."
        )
