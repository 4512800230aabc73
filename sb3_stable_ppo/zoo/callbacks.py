"""
Callbacks that a configuration names, or our flags ask for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

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


def has_reached_return(callbacks: Iterable[BaseCallback]) -> bool:
    """
    Whether a run has ended at the return it was to reach.

    :param callbacks: its own
    """
    return any(isinstance(callback, StopTrainingOnReturn) and callback.is_reached for callback in callbacks)
