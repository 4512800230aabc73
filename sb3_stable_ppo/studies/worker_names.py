"""
Names of worker processes, by which every machine can tell whether one of its own has ended.
"""

from __future__ import annotations

import hashlib
import os
import socket
from contextlib import suppress
from pathlib import Path

import psutil

CLOCK = 60.0
"""
Seconds by which two readings of a process' start may differ, because the machine's clock was set. A later process with
the same number began at least this much later.
"""


def own_name() -> str:
    """The name of this process, which no other process has or will have."""
    return f"{machine()}:{os.getpid()}:{psutil.Process().create_time():.0f}"


def machine() -> str:
    """
    The name of this machine. On Linux it tells clones, restarts and containers apart, in which the same number of a
    process stands for another process.
    """
    known = []
    with suppress(OSError):
        known.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        known.append(str(Path("/proc/self/ns/pid").readlink()))
    return f"{socket.gethostname()}-{hashlib.sha256(''.join(known).encode()).hexdigest()[:8]}"


def is_gone(worker: str) -> bool:
    """
    Whether a worker was a process of this machine, and has ended. Of other machines' workers nothing is known: False.

    :param worker: a name of :func:`own_name`
    """
    place, pid, began = worker.rsplit(":", 2)
    if place != machine():
        return False
    try:
        process = psutil.Process(int(pid))
        same = abs(process.create_time() - float(began)) < CLOCK
        return not same or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
