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
EXIT_USAGE = 2
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
    make_room(logs, jobs)
    waiting, statuses = list(reversed(jobs)), Statuses()
    tries = dict.fromkeys((job.name for job in jobs), 0)
    running: dict[Job, subprocess.Popen[bytes]] = {}
    try:
        while running or (waiting and EXIT_USAGE not in statuses.values()):
            while waiting and len(running) < n_workers and EXIT_USAGE not in statuses.values():
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
        _end(list(running.values()))
    return statuses


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Politely: `train` saves and leaves. An impatient second Ctrl-C kills."""
    for process in processes:
        process.terminate()
    try:
        for process in processes:
            process.wait()
    except KeyboardInterrupt:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()
        raise


def _begin(job: Job, log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """
    In a session of its own: Ctrl-C is for whoever called, who ends its processes in order. A module is found where the
    caller finds it: the current folder counts only if it does for the caller.
    """
    if job.argv[0] == "-m" and not {"", str(Path.cwd())} & set(sys.path):
        environment = {**environment, "PYTHONSAFEPATH": "1"}
    with log.open("ab") as file:
        command = [sys.executable, *job.argv]
        return subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)


def make_room(logs: Path, jobs: Sequence[Job]) -> None:
    """
    Make the folder of logs, and remove those of an earlier call.

    :param logs: the folder
    :param jobs: whose logs are to be written
    """
    logs.mkdir(parents=True, exist_ok=True)
    for job in jobs:
        (logs / f"{job.name}.log").unlink(missing_ok=True)


def last_line(log: Path) -> str:
    """
    :param log: of a job
    :return: its last line that is not empty, where the cause stands
    """
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"{log} is empty"
