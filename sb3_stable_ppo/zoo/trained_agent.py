"""
What a run that begins with a trained agent (``train -i``) takes over from it: the count of its schedules, and the
statistics of its VecNormalize.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_stable_ppo.common.errors import UsageError, described
from sb3_stable_ppo.common.files import UNREADABLE
from sb3_stable_ppo.schedules.learning_rate import counting_schedule


def is_schedule_of(trained_agent: str, schedule: Any) -> bool:
    """
    Whether a schedule equals that of a saved model, whose count of updates then goes on.

    :param trained_agent: the model's zip
    :param schedule: of the configuration
    """
    before = counting_schedule(_data_of(trained_agent).get("learning_rate"))
    return before is not None and repr(before) == repr(schedule)


def lines_of_this_run(trained_agent: str, hyperparams: Mapping[str, Any], n_timesteps: int) -> dict[str, Any]:
    """
    The schedules of ``lin_``, so that each begins at its full value where the run begins. SB3 goes on counting the
    steps of the agent, by which a line over all of them would be near its end.

    :param trained_agent: the model's zip
    :param hyperparams: with schedules in them
    :param n_timesteps: of the run
    :return: what takes their place
    """
    steps = int(_data_of(trained_agent).get("num_timesteps") or 0)
    stretch = (steps + n_timesteps) / n_timesteps
    lines = {name: value for name, value in hyperparams.items() if isinstance(value, LinearSchedule)}
    return {name: LinearSchedule(line.start * stretch, line.end, line.end_fraction) for name, line in lines.items()}


def with_statistics(env: VecEnv, statistics: Path, eval_env: bool) -> VecNormalize:
    """
    :param env: not normalised yet
    :param statistics: the file
    :param eval_env: whether the env is for evaluations, which leave statistics and rewards as they are
    :raises UsageError: if the file cannot be read
    """
    try:
        normalized = VecNormalize.load(str(statistics), env)
    except Exception as error:  # whatever a pickle may raise
        raise UsageError(
            f"{statistics}: no statistics of a VecNormalize for this env ({described(error, 200)})."
        ) from error
    if eval_env:
        normalized.training = normalized.norm_reward = False
    return normalized


def _data_of(trained_agent: str) -> dict[str, Any]:
    """Empty where it cannot be read, which SB3 tells when it loads the model."""
    try:
        return load_from_zip_file(trained_agent, load_data=True)[0] or {}
    except UNREADABLE:
        return {}
