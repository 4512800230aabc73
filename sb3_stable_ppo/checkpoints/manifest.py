"""
What a checkpoint's manifest tells of the run: which algorithm, what is exact, and with which versions it was written.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import stable_baselines3
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm

import sb3_stable_ppo
from sb3_stable_ppo.checkpoints.model_state import name_of_class

LEARN = ("log_interval", "tb_log_name", "progress_bar", "use_masking")
"""Arguments of ``learn()``, of which ``use_masking`` is MaskablePPO's alone, that the run goes on with."""


def facts_of(
    model: BaseAlgorithm,
    arguments: Mapping[str, Any],
    options: Mapping[str, Any],
    env_is_saved: bool,
    not_saved: Sequence[str],
) -> dict[str, Any]:
    """
    What ``manifest.json`` has beside its format, the step and the files.

    :param model: between two updates
    :param arguments: of its ``learn()``, by name
    :param options: of the RunCheckpoint that writes
    :param env_is_saved: whether nothing of the env is missing
    :param not_saved: what is missing, in words
    """
    return {
        "algorithm": name_of_class(model),
        "device": str(model.device),
        "total_timesteps": model._total_timesteps,
        "learn": {name: _plain(arguments[name]) for name in LEARN if name in arguments},
        "run_checkpoint": dict(options),
        "exact": not not_saved,
        "env_is_saved": env_is_saved,
        "not_saved": list(not_saved),
        "is_asked_for_logs": (model.tensorboard_log is not None or model._custom_logger)
        and model.logger.get_dir() is not None,
        "time": time.time(),
        "versions": {
            "sb3_stable_ppo": sb3_stable_ppo.__version__,
            "stable_baselines3": stable_baselines3.__version__,
            "torch": th.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


def _plain(argument: Any) -> Any:
    """A ``log_interval`` of a run that was resumed before is a kind of int."""
    return int(argument) if isinstance(argument, int) and not isinstance(argument, bool) else argument
