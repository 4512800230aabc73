"""
``train --seeds``: the same run with several seeds, by several processes, here or on a Ray cluster.

A seed may have several attempts, because a killed process is begun again; one of them is its run.
"""

from __future__ import annotations

import shutil
import signal
import statistics
import uuid
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.common.packages import PROGRAM
from sb3_stable_ppo.common.seeds import is_count, parse_seeds
from sb3_stable_ppo.common.signals import handled
from sb3_stable_ppo.parallel.local import EXIT_USAGE, Job, Statuses, last_line
from sb3_stable_ppo.parallel.options import WorkerOptions
from sb3_stable_ppo.runs.data import RunData, read_run
from sb3_stable_ppo.runs.folder import RunReader
from sb3_stable_ppo.runs.series import EVALUATION, RETURN, least_live_share
from sb3_stable_ppo.zoo.resuming import AUTO

CRASHED = "crashed"
"""Folder for what a killed process left of a run that was then begun again."""
CRASHED_BEFORE = "died"
"""The same folder, as version 0.1.0 named it."""
INTERRUPTED = (128 + signal.SIGINT, 128 + signal.SIGTERM)
"""Exit status of a run that a signal has ended at a checkpoint."""
FINISHED = "finished"
"""Status of a run that was trained to its end."""


def train_seeds(
    seeds: int | str | Iterable[int],
    flags: Sequence[str] = (),
    *,
    seed: int = 0,
    log_folder: str | Path = "logs",
    workers: int = 1,
    ray: str | None = None,
    worker_gpus: float = 0.0,
) -> dict[int, RunData]:
    """
    Train once with each seed, as ``sb3-stable-ppo train --seeds`` does, and print a table of the runs.

    :param seeds: how many (``5``), or which (``"0-9"``, ``"1,3,5"``, ``[1, 3]``)
    :param flags: of ``sb3-stable-ppo train``, such as ``["--env", "CartPole-v1"]``; with ``["--resume", "auto"]`` seeds
        that a call of the same flags has begun go on from their checkpoints, and those it has trained are not repeated
    :param seed: the first of a number of seeds
    :param log_folder: where the runs' folders go
    :param workers: processes at once
    :param ray: address of a Ray cluster for the workers, or ``auto``
    :param worker_gpus: GPUs of each worker on Ray; may be a fraction
    :return: the run of each seed, without seeds that were never begun; its ``status`` is ``finished`` if it was
        trained to its end
    :raises UsageError: if an argument is wrong, or a run reports that its flags are
    :raises KeyboardInterrupt: at Ctrl-C and SIGTERM, once the runs are saved
    """
    options = WorkerOptions(workers, ray, worker_gpus)
    if not workers:
        raise UsageError("workers (--workers) 0: no seed would be trained; give at least 1.")
    given = {flag.partition("=")[0] for flag in flags}
    if "--seed" in given:
        raise UsageError("flags has --seed: seed= and seeds= say which seeds are trained.")
    taken = {"-optimize", "--optimize-hyperparameters"} & given
    if taken:
        raise UsageError(f"seeds (--seeds) and {taken.pop()} do not go together: tune has seeds for each trial.")
    numbers = parse_seeds(seeds, seed)
    if isinstance(seeds, str) and is_count(seeds):
        warnings.warn(meaning_now(numbers), FutureWarning, stacklevel=2)
    log_folder, batch = Path(log_folder), uuid.uuid4().hex[:8]
    logs = log_folder / "seeds" / batch
    tasks = {seed: f"{batch}/{seed}" for seed in numbers}
    call = ("-m", "sb3_stable_ppo", "train", *flags, "--log-folder", str(log_folder), "--no-progress")
    jobs = [Job(f"seed_{seed}", (*call, "--seed", str(seed), "--task", task)) for seed, task in tasks.items()]
    ended: set[str] = set()

    def look(statuses: Statuses) -> None:
        for name in statuses.keys() - ended:
            ended.add(name)
            if statuses[name] == EXIT_USAGE:  # raised below
                continue
            how = "ended" if statuses[name] == 0 else f"failed: {last_line(logs / f'{name}.log')}"
            if statuses[name] in INTERRUPTED:
                how = f"was interrupted; --resume {AUTO} goes on with it"
            print(f"{name} {how} ({len(ended)} of {len(jobs)})", flush=True)

    made = [folder for folder in (logs, logs.parent, log_folder) if not folder.exists()]
    try:
        logs.mkdir(parents=True)
    except OSError as error:
        raise UsageError(f"--log-folder {log_folder}: {error}") from error
    print(f"{len(jobs)} seeds; what each prints is in {logs}", flush=True)
    try:
        with handled(signal.SIGTERM):
            statuses = options.run_jobs(jobs, logs, {}, look)
    except KeyboardInterrupt:
        show(runs_of(log_folder, tasks))
        raise
    except UsageError:  # of Ray's cluster; if it ends the call before a seed began, nothing is left behind
        _remove_empty(made)
        raise
    wrong = next((name for name, status in statuses.items() if status == EXIT_USAGE), None)
    if wrong is not None:
        told = last_line(logs / f"{wrong}.log").removeprefix(f"{PROGRAM}: error: ")
        shutil.rmtree(logs)  # a mistake in the call leaves nothing behind
        _remove_empty(made)
        raise UsageError(f"{wrong}: {told}")
    runs = runs_of(log_folder, tasks)
    show(runs)
    return runs


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def meaning_now(seeds: Sequence[int]) -> str:
    """
    What a number alone means, since it meant something else in version 0.1.

    :param seeds: that it stands for
    """
    number = len(seeds)
    return (
        f"seeds (--seeds) {number} means {number} seeds, {seeds[0]} to {seeds[-1]}; in version 0.1 it was the seed "
        f"{number} alone, which is --seed {number} now, or seeds {number}-{number}."
    )


def move_dead_attempt(log_folder: Path, task: str) -> Path | None:
    """
    Move what a killed process left of a task's run to the folder ``CRASHED``, so that its curves do not count beside
    those of the next attempt. A run that was trained to its end stays: its process was killed later, in the report.

    :param log_folder: of ``train``
    :param task: which run of which call
    :return: the folder of a run that was trained to its end; None: the task is to be done
    """
    finished = None
    for folder in _attempts(log_folder, task):
        if RunReader(folder).facts.get("status") == FINISHED:
            finished = folder
            continue
        crashed = log_folder / CRASHED
        crashed.mkdir(exist_ok=True)
        names = (f"{folder.name}_{task.replace('/', '_')}_{number}" for number in range(1000))
        shutil.move(folder, crashed / next(name for name in names if not (crashed / name).exists()))
    return finished


def runs_of(log_folder: Path, tasks: Mapping[int, str]) -> dict[int, RunData]:
    """
    The run of each seed: of several attempts the one that was trained to its end, or else the last.

    :param log_folder: of ``train``
    :param tasks: by seed
    :return: by seed, without seeds that were never begun
    """
    runs: dict[int, RunData] = {}
    for seed, task in tasks.items():
        found = [read_run(folder) for folder in _attempts(log_folder, task)]
        if found:
            runs[seed] = max(found, key=lambda run: (run.status == FINISHED, str(run.facts.get("started"))))
    return runs


def show(runs: Mapping[int, RunData]) -> None:
    """
    Print how the runs ended, and the mean of their returns.

    :param runs: by seed
    """
    from rich.markup import escape
    from rich.table import Table

    from sb3_stable_ppo.common.console import Console

    title = "Return: of the last evaluation, or else of the last episodes"
    table = Table("seed", "status", "steps", "return", "live", "folder", title=title)
    returns = []
    for seed, run in runs.items():
        last = _last_return(run)
        if run.status == FINISHED and last is not None:
            returns.append(last)
        text = "-" if last is None else f"{last:.4g}"
        table.add_row(str(seed), run.status, f"{run.steps:,}", text, _least_live(run), escape(str(run.folder)))
    console = Console()
    console.print(table)
    if len(returns) > 1:
        spread = f"{statistics.fmean(returns):.4g} ± {statistics.stdev(returns):.4g}"
        console.print(f"Return of {len(returns)} finished runs: {spread} (mean and standard deviation)")


def _attempts(log_folder: Path, task: str) -> list[Path]:
    """The folders of a task's runs but for those that were moved away."""
    found = [path.parent for path in sorted(log_folder.glob("*/*/run.json"))]
    left = [folder for folder in found if folder.parent.name not in (CRASHED, CRASHED_BEFORE)]
    return [folder for folder in left if _task_of(folder) == task]


def _task_of(folder: Path) -> object:
    try:
        return RunReader(folder).facts.get("task")
    except (OSError, ValueError):  # a file of somebody else's, or one that a power cut has left empty
        return None


def _last_return(run: RunData) -> float | None:
    for name in (EVALUATION, RETURN):
        if name in run.curves and len(run.curves[name].values):
            return float(run.curves[name].values[-1])
    return None


def _least_live(run: RunData) -> str:
    """The share of live units at the end, of the actor's layer with the smallest share."""
    share = least_live_share(run.health)
    return "-" if share is None else f"{share:.0%}"
