"""
Schedules in a configuration: ours, and ``lin_`` that ends at zero, not below it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.utils import LinearSchedule

from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.schedules.learning_rate import counting_schedule, make_schedule


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


def is_schedule_of(trained_agent: str, schedule: Any) -> bool:
    """
    Whether a schedule equals that of a saved model, whose count of updates then goes on.

    :param trained_agent: the model's zip
    :param schedule: of the configuration
    """
    saved, _, _ = load_from_zip_file(trained_agent, load_data=True)
    before = counting_schedule((saved or {}).get("learning_rate"))
    return before is not None and repr(before) == repr(schedule)
