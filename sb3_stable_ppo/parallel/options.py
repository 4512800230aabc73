"""
How many processes work at once, and where: what ``tune`` and ``train --seeds`` have in common.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.parallel.local import Job, Statuses, run_here
from sb3_stable_ppo.parallel.ray import run_on_ray


@dataclass(frozen=True)
class WorkerOptions:
    """
    :param workers: processes at once
    :param ray: address of a Ray cluster, or ``auto``; None: processes of this machine
    :param worker_gpus: of each worker, on Ray; may be a fraction
    :raises UsageError: if a value makes no sense or contradicts another, or Ray is not installed
    """

    workers: int = 1
    ray: str | None = None
    worker_gpus: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.workers, int) or self.workers < 0:
            raise UsageError(f"workers (--workers) must be a whole number of at least 0, not {self.workers!r}.")
        is_number = isinstance(self.worker_gpus, (int, float)) and not isinstance(self.worker_gpus, bool)
        if not is_number or not (
            0 <= self.worker_gpus <= 1 or (float(self.worker_gpus).is_integer() and self.worker_gpus > 1)
        ):
            raise UsageError(
                "worker_gpus (--worker-gpus) must be a share of a GPU from 0 to 1 or a whole number of GPUs, not "
                f"{self.worker_gpus!r}."
            )
        if self.ray is None and self.worker_gpus:
            raise UsageError(
                "worker_gpus (--worker-gpus) is for workers on Ray (--ray); processes here see all GPUs "
                "(CUDA_VISIBLE_DEVICES chooses)."
            )
        if self.ray is not None and importlib.util.find_spec("ray") is None:
            raise UsageError("ray (--ray) needs Ray: pip install 'sb3-stable-ppo[ray]'.")

    def run_jobs(
        self, jobs: Sequence[Job], logs: Path, environment: Mapping[str, str], look: Callable[[Statuses], None]
    ) -> Statuses:
        """
        Do jobs with :func:`~sb3_stable_ppo.parallel.local.run_here` or
        :func:`~sb3_stable_ppo.parallel.ray.run_on_ray`.

        :param jobs: what to do, in this order
        :param logs: folder of the jobs' logs
        :param environment: variables beside those of this process
        :param look: called again and again, with the exit status of each job that has ended
        :return: exit status by job
        """
        if self.ray is None:
            return run_here(jobs, self.workers, logs, environment, look)
        return run_on_ray(jobs, self.workers, logs, environment, look, address=self.ray, gpus=self.worker_gpus)
