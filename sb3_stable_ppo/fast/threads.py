"""
Threads of torch and of the emulator on a machine with few cores, where they take turns.

Without the settings here they wait for each other, as measured on two cores (docs/fast_path.md). torch's second thread
keeps spinning for milliseconds after the policy has acted, on the core that the emulator needs. And an emulator thread
that is woken displaces the thread that was about to wake the others; two emulator threads that land on one core stay
there for longer than a step takes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch as th

SMALL = 4
"""Threads of torch. With more, a spinning thread costs little, and a single one would act too slowly."""
FEW_ROWS = 16
"""Observations; for no more than these, one thread is nearly as fast as two."""


@contextmanager
def single_threaded_inference(rows: int, device: th.device) -> Iterator[None]:
    """
    Within this context torch computes with one thread, if it has few threads and there are few observations. Elsewhere
    nothing changes.

    :param rows: the number of observations
    :param device: where the policy is; nothing changes unless it is a CPU
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
    Threads that are started within this context run under Linux' ``SCHED_BATCH``: a thread that is woken does not
    displace the one that wakes it. Nothing changes on other systems, where the process has a scheduling policy of its
    own, or where a sandbox forbids the change.
    """
    if not hasattr(os, "SCHED_BATCH"):
        yield
        return
    policy, param = os.sched_getscheduler(0), os.sched_getparam(0)
    if policy != os.SCHED_OTHER:  # chosen by the user
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
    The core to bind the emulator's first thread to, as ALE's ``thread_affinity_offset``; the other threads are bound to
    the cores after it. Threads are bound only where there is one for each core and the process may use all cores.
    Otherwise some cores would be left out or shared.

    :param threads: of the emulator
    :return: 0, or -1: no thread is bound
    """
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    return 0 if threads == os.cpu_count() == len(allowed) else -1
