"""
Jobs on a Ray cluster. Each job is a Ray task; Ray begins it again, elsewhere if need be, if its process or its machine
dies.
"""

from __future__ import annotations

import contextlib
import logging
import os
import runpy
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sb3_stable_ppo import __version__
from sb3_stable_ppo.common.errors import UsageError, described
from sb3_stable_ppo.parallel.local import EXIT_USAGE, MAX_RETRIES, POLL, Job, Statuses, prepare_logs

KILLED = -9
"""Status of a job whose processes or machines died, after all retries."""
CONNECT_TIMEOUT_S = 20
"""Seconds to wait for a cluster's answer."""
SHUTDOWN_TIMEOUT_S = 60
"""Seconds that interrupted jobs have to save what they have."""


def run_on_ray(
    jobs: Sequence[Job],
    n_workers: int,
    logs: Path,
    environment: Mapping[str, str],
    look: Callable[[Statuses], None] = lambda _: None,
    *,
    address: str,
    gpus: float = 0.0,
) -> Statuses:
    """
    As :func:`~sb3_stable_ppo.parallel.local.run_here`, on the machines of a cluster. Each of them needs the same
    version of this package, and the current folder under the same path, as on NFS.

    :param jobs: what to do, in this order
    :param n_workers: tasks at once
    :param logs: folder; what a job prints goes to ``NAME.log`` there
    :param environment: variables beside those of Ray's processes
    :param look: called twice a second, with the exit status of each job that has ended
    :param address: of the cluster; ``auto``: the one that this machine belongs to
    :param gpus: of each job; Ray hides the other GPUs from it
    :return: exit status by job; jobs that were never begun are missing
    :raises UsageError: if Ray is not installed, or no cluster answers
    """
    prepare_logs(logs, jobs)
    with _connected(address) as ray:
        task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=MAX_RETRIES, max_calls=1)(_do)
        waiting, statuses = list(reversed(jobs)), Statuses()
        running: dict[Any, Job] = {}
        try:
            while running or (waiting and EXIT_USAGE not in statuses.values()):
                while waiting and len(running) < n_workers and EXIT_USAGE not in statuses.values():
                    job = waiting.pop()
                    log = str(logs / f"{job.name}.log")
                    running[task.remote(job.argv, log, dict(environment), str(Path.cwd()), __version__)] = job
                done, _ = ray.wait(list(running), timeout=POLL)
                for reference in done:
                    job = running.pop(reference)
                    statuses[job.name] = _status(ray, reference, job)
                look(statuses)
        except KeyboardInterrupt:
            for reference in running:
                ray.cancel(reference)
            if running:
                ray.wait(list(running), num_returns=len(running), timeout=SHUTDOWN_TIMEOUT_S)
            raise
    return statuses


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Connect to a cluster for the length of a ``with`` block, without Ray's own messages."""
    try:
        import ray
    except ImportError:
        raise UsageError("ray (--ray) needs Ray: pip install 'sb3-stable-ppo[ray]'.") from None
    if ray.is_initialized():  # the caller's own connection, which stays as it is
        yield ray
        return
    _check_reachable(address)
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """
    Ask the cluster from another process, because ``ray.init`` tries for two minutes where no cluster answers, and then
    ends the process it runs in.
    """
    code = "import logging, ray, sys; ray.init(sys.argv[1], log_to_driver=False, logging_level=logging.CRITICAL)"
    try:
        asked = subprocess.run(
            [sys.executable, "-c", code, address], capture_output=True, text=True, timeout=CONNECT_TIMEOUT_S
        )
        lines = asked.stderr.strip().splitlines() if asked.returncode else []
        problem = lines[-1] if lines else ""
    except subprocess.TimeoutExpired:
        problem = f"it gave no answer for {CONNECT_TIMEOUT_S} seconds"
    if problem:
        raise UsageError(
            f"ray (--ray) {address}: no cluster answers: {problem.rstrip('.')}. Start one with `ray start --head`; "
            "on a machine of the cluster, auto finds it."
        )


def _status(ray: Any, reference: Any, job: Job) -> int:
    try:
        return int(ray.get(reference))
    except ray.exceptions.RayTaskError as error:
        raise UsageError(f"ray (--ray): {job.name}: {described(error.cause, 300)}") from None
    except ray.exceptions.RayError:
        return KILLED


def _do(argv: Sequence[str], log: str, environment: Mapping[str, str], folder: str, version: str) -> int:
    """Do a job on a machine of the cluster, within Ray's own process, so that both die together."""
    os.chdir(folder)
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    os.environ.update(environment)
    with (
        Path(log).open("a", encoding="utf-8") as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
    ):
        if version != __version__:
            host = socket.gethostname()
            print(
                f"{host} has sb3-stable-ppo {__version__}; the caller has {version}: install the same version on both."
            )
            return EXIT_USAGE
        try:
            return _call(list(argv))
        except Exception:
            traceback.print_exc()
            return 1


def _call(argv: list[str]) -> int:
    """Run what ``python ARGV`` would run, and return its exit status."""
    before = sys.argv
    is_module = argv[0] == "-m"
    sys.argv = argv[1:] if is_module else argv
    try:
        if is_module:
            runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
        else:
            sys.path.insert(0, str(Path(argv[0]).parent))
            runpy.run_path(argv[0], run_name="__main__")
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 0 if exit_.code is None else 1
    finally:
        sys.argv = before
    return 0
