"""
What Python's forkserver imports before it forks the processes of envs (:func:`preload_forkserver`). Nothing else should
import it.
"""

from __future__ import annotations

import os
from importlib import import_module

import numpy as np

for name in ("stable_baselines3.common.env_util", "sb3_stable_ppo.envs.worker_process"):
    try:
        import_module(name)
    except Exception as error:
        raise ImportError(name) from error  # the forkserver passes over this one, and ends by all others

# All processes would begin with one state of numpy's global generator. Those that start Python anew differ.
os.register_at_fork(after_in_child=np.random.seed)
