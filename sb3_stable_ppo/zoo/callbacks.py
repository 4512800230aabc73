"""
Callbacks that a configuration names, or our flags ask for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_stable_ppo.common.callbacks import callbacks_within
from sb3_stable_ppo.health.callback import HealthCallback
from sb3_stable_ppo.runs.callback import RunCallback
from sb3_stable_ppo.runs.stop_on_return import StopTrainingOnReturn
from sb3_stable_ppo.zoo.hyperparams import class_entries, find_class
from sb3_stable_ppo.zoo.progress import ProgressLines


def without_run_callbacks(specified: Any) -> list[Any]:
    """
    The callbacks of a YAML file but for those that write to a run folder.

    :param specified: in any of rl_zoo3's forms
    """
    return [
        {name: options}
        for name, options in class_entries(specified)
        if not issubclass(find_class(name, "callback"), RunCallback)
    ]


def flag_callbacks(folder: str, progress: bool, stop_at_return: float | None, verbose: int) -> list[BaseCallback]:
    """
    Those that flags of ours ask for.

    :param folder: of the run
    :param progress: whether a bar shows how training goes
    :param stop_at_return: the mean return at which training ends, or None
    :param verbose: SB3's verbosity
    """
    own: list[BaseCallback] = [ProgressLines(folder)] if progress and verbose > 0 else []
    if stop_at_return is not None:
        own.append(StopTrainingOnReturn(stop_at_return, verbose=verbose))
    return own


def with_health(callbacks: list[BaseCallback], algorithm: type[BaseAlgorithm]) -> list[BaseCallback]:
    """
    The callbacks of a run with a HealthCallback first, so that each run has a verdict, stock algorithms' too.

    :param callbacks: of the configuration
    :param algorithm: of the run; ARS has no buffer that could be looked at
    """
    is_served = issubclass(algorithm, (OnPolicyAlgorithm, OffPolicyAlgorithm))
    if not is_served or any(
        isinstance(found, HealthCallback) for each in callbacks for found in callbacks_within(each)
    ):
        return callbacks
    return [HealthCallback(), *callbacks]


def has_reached_return(callbacks: Iterable[BaseCallback]) -> bool:
    """
    Whether a run has ended at the return it was to reach.

    :param callbacks: its own
    """
    return any(isinstance(callback, StopTrainingOnReturn) and callback.is_reached for callback in callbacks)
