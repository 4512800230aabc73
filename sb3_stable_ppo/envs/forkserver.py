"""
The process from which ``SubprocVecEnv`` forks its workers: once SB3 is imported there, workers start at once and share
its memory.
"""

from __future__ import annotations

import multiprocessing as mp
import sys
from multiprocessing import forkserver
from typing import Any

PRELOADED = "sb3_stable_ppo.envs.worker_imports"
DEFAULT = ["__main__"]
"""What Python preloads unless it is told otherwise; before 3.13.8 and 3.14.1 it fails to (python/cpython#126631)."""


def preload_forkserver() -> bool:
    """
    Let Python's forkserver import what an env's process needs before it forks the first one. Without it each process
    imports torch and SB3 anew, which takes seconds of a core and a hundred megabytes or more.

    Call it before the first ``SubprocVecEnv`` of a process. :class:`RestartingVecEnv` and ``sb3-stable-ppo train`` call
    it by themselves. Envs are what they were: each process still draws a seed of its own for numpy's global generator.

    :return: whether the processes will be forked from what is imported there; not where there is no forkserver
        (Windows), where system libraries may not be forked (macOS), where it runs already, or where your own
        ``set_forkserver_preload`` has named other modules
    """
    if sys.platform == "darwin" or "forkserver" not in mp.get_all_start_methods():
        return False
    server: Any = getattr(forkserver, "_forkserver", None)  # Python has no public way to ask
    preloads = getattr(server, "_preload_modules", [])
    if PRELOADED in preloads:
        return True
    if preloads != DEFAULT or server._forkserver_pid is not None:
        return False
    mp.get_context("forkserver").set_forkserver_preload([*DEFAULT, PRELOADED])
    return True
