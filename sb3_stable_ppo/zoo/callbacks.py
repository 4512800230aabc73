"""
Callbacks that a configuration names.
"""

from __future__ import annotations

from typing import Any

from sb3_stable_ppo.runs.callback import RunCallback
from sb3_stable_ppo.zoo.hyperparams import class_entries, find_class


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
