"""
A study from its plan to its best trials: workers are started, replaced where they die, and waited for.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from functools import partial
from pathlib import Path

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial
from rl_zoo3.utils import ALGOS
from tqdm import tqdm

from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.common.files import write_atomically
from sb3_stable_ppo.common.signals import handled
from sb3_stable_ppo.parallel.local import EXIT_USAGE, MAX_RETRIES, Job, last_line, run_here
from sb3_stable_ppo.parallel.ray import run_on_ray
from sb3_stable_ppo.studies.page import page_of
from sb3_stable_ppo.studies.storage import is_file, open_storage, redacted_errors
from sb3_stable_ppo.studies.study import (
    WORKER,
    effective_trials,
    goal_of,
    n_remaining,
    open_study,
    plan_of,
    requeue_dead_trials,
    running,
)
from sb3_stable_ppo.tuning.results import show, write_best
from sb3_stable_ppo.tuning.trial import Plan, base_entry
from sb3_stable_ppo.tuning.worker import STORAGE, VERSIONS, arguments
from sb3_stable_ppo.zoo.registry import ALGORITHMS, config_file, register

POLL = 2.0
"""Seconds between two looks at a study, each of which reads all its trials."""


def tune(args: argparse.Namespace) -> int:
    """
    :param args: of ``sb3-stable-ppo tune``
    :return: the exit status
    :raises UsageError: for what keeps the study from being made or gone on with
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = args.log_folder / args.study
    where = args.storage or str(folder / "journal.log")
    plan = _plan(args, folder / "trials")
    facts = {name: value for name, value in plan._asdict().items() if name != "folder"}
    facts |= {"heartbeat": args.heartbeat, **VERSIONS}
    with redacted_errors(where):
        if not args.workers and is_file(where) and not Path(where).is_file():
            raise UsageError(f"--storage {where}: there is no such file, and no study to show.")
        storage = open_storage(where, args.heartbeat)
        if not args.workers:
            plan_of(storage, args.study)
        study = open_study(storage, args.study, facts, args.pruner, args.seed, 2 if args.health else 1)
        if args.workers:
            requeue_dead_trials(study, args.heartbeat)
        goal = goal_of(study, args.trials)
        print(f"Study {args.study}: {args.trials} trials, {n_remaining(study, goal)} of them to do.", flush=True)
        interrupted = _done_by_workers(study, goal, args, folder, where)
        show(study)
    if interrupted:
        print("Interrupted: the same command goes on; trials that were running are done again.")
        return 130
    for path in write_best(study, plan, folder):
        print(path)
    page = page_of(study)
    if page is not None:
        write_atomically(folder / "study.html", page.encode())
        print(folder / "study.html")
    return 0


def _plan(args: argparse.Namespace, folder: Path) -> Plan:
    """What all trials have in common, checked before anything is written."""
    register()
    if args.algo not in ALGORITHMS:
        raise UsageError(f"tune searches {', '.join(ALGORITHMS)}, not {args.algo!r}.")
    base = base_entry(args.conf_file or config_file(args.algo), args.env, ALGOS[args.algo])
    return Plan(
        algo=args.algo,
        env=args.env,
        base=base,
        n_timesteps=args.n_timesteps,
        seeds=tuple(range(args.seed, args.seed + args.seeds)),
        n_evaluations=args.n_evaluations,
        eval_episodes=args.eval_episodes,
        health=args.health,
        folder=folder,
    )


def _done_by_workers(study: Study, goal: int, args: argparse.Namespace, folder: Path, where: str) -> bool:
    """
    Round after round of workers, until all trials are done.

    :return: whether it was interrupted
    """
    if not args.workers:
        return False
    run_jobs = run_here if args.ray is None else partial(run_on_ray, address=args.ray, gpus=args.worker_gpus)
    argv = arguments(args.study, folder / "trials", goal, args.heartbeat, args.pruner, args.gym_packages)
    logs, watch, vain = folder / "workers", _Watch(study, goal, args.heartbeat), 0
    try:
        with handled(signal.SIGTERM):
            while n_remaining(study, goal) or running(study):
                left = n_remaining(study, goal)
                if not left:  # the rest runs elsewhere, or its workers have died, as will be seen
                    watch.tell_once(running(study))
                    time.sleep(POLL)
                    watch()
                    continue
                before = watch.done
                jobs = [Job(f"worker_{number}", argv) for number in range(min(args.workers, left))]
                statuses = run_jobs(jobs, args.workers, logs, {STORAGE: where}, watch)
                watch()
                vain = vain + 1 if any(statuses.values()) and watch.done == before else 0
                if n_remaining(study, goal) and (EXIT_USAGE in statuses.values() or vain > MAX_RETRIES):
                    name = next(name for name, status in statuses.items() if status)
                    raise UsageError(f"tune: the workers cannot work: {last_line(logs / f'{name}.log')}")
    except KeyboardInterrupt:
        requeue_dead_trials(study, args.heartbeat)
        return True
    finally:
        watch.close()
    return False


class _Watch:
    """Looks for dead workers now and then; a bar of the trials that are done, where there is a terminal."""

    def __init__(self, study: Study, goal: int, heartbeat: int) -> None:
        self._study, self._heartbeat, self._next = study, heartbeat, 0.0
        self.done, self._told = 0, False
        self._bar = tqdm(total=goal, unit="trial", disable=not sys.stderr.isatty())
        self()

    def __call__(self, statuses: object = None) -> None:
        """
        :param statuses: given by a crew, which calls more often than a storage likes; without, it is looked at once
        """
        if statuses is not None and time.monotonic() < self._next:
            return
        requeue_dead_trials(self._study, self._heartbeat)
        self.done = sum(trial.state.is_finished() for trial in effective_trials(self._study).values())
        self._bar.update(self.done - self._bar.n)
        self._next = time.monotonic() + POLL

    def tell_once(self, trials: list[FrozenTrial]) -> None:
        """
        :param trials: that are waited for
        """
        if trials and not self._told:
            self._told = True
            workers = ", ".join(sorted({str(trial.user_attrs.get(WORKER, "a worker")) for trial in trials}))
            print(f"Waiting for trials of {workers}; Ctrl-C ends the waiting alone.", flush=True)

    def close(self) -> None:
        self._bar.close()
