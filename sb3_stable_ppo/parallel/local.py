"""
Jobs in several processes of this machine. Each job is a call of Python; it is begun again if its process is killed.
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
"""How often a job whose process was killed is begun again."""
POLL = 0.5
"""Seconds between two checks of the processes."""
EXIT_USAGE = 2
"""Exit status of a mistake in the call. The other jobs would make the same mistake, so none is begun after it."""


class Job(NamedTuple):
    """
    :param name: of the job, and of its log
    :param argv: what follows ``python`` on a command line: a script, or ``-m`` and a module, and arguments
    """

    name: str
    argv: tuple[str, ...]


Statuses = dict[str, int]
"""Exit status by job. A negative one is the signal that killed the job, after all retries."""


def run_here(
    jobs: Sequence[Job],
    n_workers: int,
    logs: Path,
    environment: Mapping[str, str],
    look: Callable[[Statuses], None] = lambda _: None,
) -> Statuses:
    """
    Do jobs in processes of one thread each, unless ``OMP_NUM_THREADS`` says otherwise. If this process is interrupted,
    the jobs get SIGTERM, and their ends are waited for.

    :param jobs: what to do, in this order
    :param n_workers: processes at once
    :param logs: folder; what a job prints goes to ``NAME.log`` there
    :param environment: variables beside those of this process
    :param look: called twice a second, with the exit status of each job that has ended
    :return: exit status by job; jobs that were never begun are missing
    """
    environment = {"OMP_NUM_THREADS": "1", **os.environ, **environment}
    prepare_logs(logs, jobs)
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
    """SIGTERM lets ``train`` save its model and end. A second Ctrl-C during the wait kills the processes."""
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
    Begin a process in a session of its own: Ctrl-C in the terminal reaches the caller alone, which then ends its
    processes in order. A module is found where the caller finds it: Python searches the current folder only if the
    caller's Python does.
    """
    if job.argv[0] == "-m" and not {"", str(Path.cwd())} & set(sys.path):
        environment = {**environment, "PYTHONSAFEPATH": "1"}
    with log.open("ab") as file:
        command = [sys.executable, *job.argv]
        return subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)


def prepare_logs(logs: Path, jobs: Sequence[Job]) -> None:
    """
    Make the folder of logs, and remove the jobs' logs of an earlier call.

    :param logs: the folder
    :param jobs: the jobs that are to write logs
    """
    logs.mkdir(parents=True, exist_ok=True)
    for job in jobs:
        (logs / f"{job.name}.log").unlink(missing_ok=True)


def last_line(log: Path) -> str:
    """
    :param log: of a job
    :return: the last line that is not empty; Python's errors end with their cause
    """
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"{log} is empty"
