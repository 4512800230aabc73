"""
Round after round of workers: started, replaced if they die, and waited for, until a study has its trials.
"""

from __future__ import annotations

import signal
import sys
import time
import uuid
from pathlib import Path

from optuna.study import Study
from optuna.trial import FrozenTrial
from tqdm import tqdm

from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.common.packages import PROGRAM
from sb3_stable_ppo.common.signals import handled
from sb3_stable_ppo.parallel.local import EXIT_USAGE, MAX_RETRIES, Job, last_line
from sb3_stable_ppo.parallel.options import WorkerOptions
from sb3_stable_ppo.studies.study import WORKER, effective_trials, n_remaining, requeue_dead_trials, running
from sb3_stable_ppo.tuning.worker import STORAGE

POLL = 2.0
"""Seconds between two looks at a study, each of which reads all its trials."""


class Jobs:
    """
    Workers of a study.

    :param options: how many, and where
    :param argv: what follows ``python`` for each
    :param folder: of the study
    :param where: the storage, which the workers are told in an environment variable
    """

    def __init__(self, options: WorkerOptions, argv: tuple[str, ...], folder: Path, where: str) -> None:
        self._options, self._argv, self._environment = options, argv, {STORAGE: where}
        self.logs = folder / "workers" / uuid.uuid4().hex[:8]  # other calls, on other machines too, have theirs there

    def run(self, n_trials: int, watch: Watch) -> dict[str, int]:
        """
        :param n_trials: that are to be done; there are no more workers than trials
        :param watch: called while they work
        :return: exit status by worker
        """
        jobs = [Job(f"worker_{number}", self._argv) for number in range(min(self._options.workers, n_trials))]
        return self._options.run_jobs(jobs, self.logs, self._environment, watch)


def do_trials(study: Study, goal: int, heartbeat: int, jobs: Jobs) -> None:
    """
    Round after round of workers, until all trials are done.

    :raises UsageError: if a worker reports a mistake, or the workers of several rounds fail without ending a trial
    :raises KeyboardInterrupt: once the workers have ended
    """
    watch, fruitless_rounds = Watch(study, goal, heartbeat), 0
    try:
        with handled(signal.SIGTERM):
            while (left := n_remaining(study, goal)) or running(study):
                if not left:  # other calls' workers do the rest, or have died, which will be seen
                    watch.announce_waiting(running(study))
                    time.sleep(POLL)
                    watch()
                    continue
                before = watch.done
                statuses = jobs.run(left, watch)
                watch()
                failed = [name for name, status in statuses.items() if status]
                fruitless_rounds = fruitless_rounds + 1 if failed and watch.done == before else 0
                refused = [name for name in failed if statuses[name] == EXIT_USAGE]
                if n_remaining(study, goal) and (refused or fruitless_rounds > MAX_RETRIES):
                    told = last_line(jobs.logs / f"{(refused or failed)[0]}.log")
                    raise UsageError(f"tune: {(refused or failed)[0]}: {told.removeprefix(f'{PROGRAM}: error: ')}")
    except KeyboardInterrupt:
        requeue_dead_trials(study, heartbeat)
        raise
    finally:
        watch.close()


class Watch:
    """Looks for dead workers now and then, and shows a bar of the trials that are done if there is a terminal."""

    def __init__(self, study: Study, goal: int, heartbeat: int) -> None:
        self._study, self._heartbeat, self._next = study, heartbeat, 0.0
        self.done, self._announced = 0, False
        self._bar = tqdm(total=goal, unit="trial", disable=not sys.stderr.isatty())
        self()

    def __call__(self, statuses: object = None) -> None:
        """
        :param statuses: given by ``run_jobs``, which calls more often than a storage should be read: most of its calls
            do nothing. Without it, the study is read at once.
        """
        if statuses is not None and time.monotonic() < self._next:
            return
        requeue_dead_trials(self._study, self._heartbeat)
        self.done = sum(trial.state.is_finished() for trial in effective_trials(self._study).values())
        self._bar.update(self.done - self._bar.n)
        self._next = time.monotonic() + POLL

    def announce_waiting(self, trials: list[FrozenTrial]) -> None:
        """
        Print, once, which workers of other calls have not ended their trials.

        :param trials: that are waited for
        """
        if trials and not self._announced:
            self._announced = True
            workers = ", ".join(sorted({str(trial.user_attrs.get(WORKER, "a worker")) for trial in trials}))
            print(f"Waiting for trials of {workers}. Ctrl-C ends the waiting, not the trials.", flush=True)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()
