"""
On few cores, torch's threads and the emulator's take turns: what lets them do so without waiting for each other.

Measured on two cores (docs/fast_path.md): torch's second thread goes on spinning for milliseconds after it has acted
and takes its core from the emulator; an emulator thread that is woken takes the core of the thread that was about to
wake the others, and two of them on one core stay there for longer than a step lasts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch as th

SMALL = 4
"""Threads; where torch has more, one of them that spins is no loss, and one alone would act too slowly."""
FEW_ROWS = 16
"""Observations that one thread acts on nearly as fast as two."""


@contextmanager
def single_threaded_inference(rows: int, device: th.device) -> Iterator[None]:
    """
    Within this context torch computes on one thread, if there are few threads and few rows.

    :param rows: the number of observations
    :param device: where the policy is
    """
    threads = th.get_num_threads()
    if device.type != "cpu" or not 1 < threads <= SMALL or rows > FEW_ROWS:
        yield
        return
    th.set_num_threads(1)
    try:
        yield
    finally:
        th.set_num_threads(threads)


@contextmanager
def batch_scheduling() -> Iterator[None]:
    """
    Threads that are started within this context do not push aside the one that wakes them (Linux' ``SCHED_BATCH``).
    """
    if not hasattr(os, "SCHED_BATCH"):
        yield
        return
    policy, param = os.sched_getscheduler(0), os.sched_getparam(0)
    if policy != os.SCHED_OTHER:  # someone has chosen already
        yield
        return
    try:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    except OSError:  # a sandbox that forbids it
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, param)


def affinity_offset(threads: int) -> int:
    """
    The core that the first of the emulator's threads is bound to, the others counting on; -1: none is bound. They are
    bound where they are as many as the cores and all cores are ours, so that no core is left out and none shared.

    :param threads: of the emulator
    """
    ours = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    return 0 if threads == os.cpu_count() == len(ours) else -1
