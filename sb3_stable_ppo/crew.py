"""
Work in several processes of this machine: each job a call of Python, done again if its process is killed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

MAX_RETRIES = 3
"""How often a job is begun again whose process was killed."""
POLL = 0.5
"""Seconds between two looks at the processes."""
MISTAKE = 2
"""Exit status of a mistake in the call, which the other jobs would only repeat: none is begun after it."""


class Job(NamedTuple):
    """
    :param name: of the job, and of its log
    :param argv: what follows ``python`` on a command line: a script, or ``-m`` and a module, and arguments
    """

    name: str
    argv: tuple[str, ...]


Statuses = dict[str, int]
"""Exit status by job; a negative one is the signal that killed it once too often."""


def run_here(
    jobs: Sequence[Job],
    n_workers: int,
    logs: Path,
    environment: Mapping[str, str],
    look: Callable[[Statuses], None] = lambda _: None,
) -> Statuses:
    """
    Do jobs in processes of one thread each, unless ``OMP_NUM_THREADS`` says otherwise.

    :param jobs: what to do, in this order
    :param n_workers: processes at once
    :param logs: folder; what a job prints goes to ``NAME.log`` there
    :param environment: variables beside those of this process
    :param look: called twice a second, with the status of each job that is done
    :return: by job, also of those never begun: those are missing
    """
    environment = {"OMP_NUM_THREADS": "1", **os.environ, **environment}
    logs.mkdir(parents=True, exist_ok=True)
    waiting, statuses = list(reversed(jobs)), Statuses()
    tries = dict.fromkeys((job.name for job in jobs), 0)
    running: dict[Job, subprocess.Popen[bytes]] = {}
    try:
        while running or (waiting and MISTAKE not in statuses.values()):
            while waiting and len(running) < n_workers and MISTAKE not in statuses.values():
                job = waiting.pop()
                running[job] = _begin(job, logs / f"{job.name}.log", environment)
            time.sleep(POLL)
            for job in [job for job, process in running.items() if process.poll() is not None]:
                status = running.pop(job).returncode
                tries[job.name] += 1
                if status < 0 and tries[job.name] <= MAX_RETRIES:
                    waiting.append(job)
                else:
                    statuses[job.name] = status
            look(statuses)
    finally:
        for process in running.values():
            process.terminate()  # which `train` takes for a wish to save and leave
        for process in running.values():
            process.wait()
    return statuses


def _begin(job: Job, log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """In a session of its own: Ctrl-C is for whoever called, who ends its processes in order."""
    with log.open("ab") as file:
        command = [sys.executable, *job.argv]
        return subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)


def last_line(log: Path) -> str:
    """
    :param log: of a job
    :return: its last line that is not empty, where the cause stands
    """
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"{log} is empty"
