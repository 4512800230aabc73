"""
``train --seeds``: the same run with several seeds, by several processes, here or on a Ray cluster.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import statistics
import uuid
from functools import partial
from pathlib import Path

from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.common.signals import handled
from sb3_stable_ppo.parallel.local import EXIT_USAGE, Job, Statuses, last_line, run_here
from sb3_stable_ppo.parallel.ray import run_on_ray
from sb3_stable_ppo.probes.activations import is_critic_layer
from sb3_stable_ppo.runs.data import EVALUATION, RETURN, RunData, live_shares, read_run
from sb3_stable_ppo.runs.folder import RunReader

CRASHED = "died"
"""Folder for what a killed process left of a run that was then done again."""
MOST = 1000
"""Seeds of one call."""


def parse_seeds(text: str) -> list[int]:
    """
    :param text: such as ``0-9``, ``3`` or ``0-4,7``
    :raises UsageError: if it is no such thing, or has a seed twice
    """
    seeds: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part.strip())
        if found is None or (found[2] and int(found[2]) < int(found[1])):
            raise UsageError(f"--seeds {text!r}: not seeds and ranges of seeds, such as 0-9 or 0-4,7.")
        more = range(int(found[1]), int(found[2] or found[1]) + 1)
        if len(more) > MOST:
            raise UsageError(f"--seeds {text!r}: more than {MOST} at once.")
        seeds += more
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"--seeds {text!r}: a seed stands there twice.")
    return seeds


def train_seeds(args: argparse.Namespace, log_folder: Path, flags: list[str]) -> int:
    """
    :param args: of ``train``: ``seeds``, ``workers``, ``ray``, ``worker_gpus``
    :param log_folder: where ``flags`` have the runs' folders
    :param flags: what each run is called with
    :return: the exit status: 1 if any run failed
    :raises UsageError: if a run tells that there is a mistake in the call
    """
    if args.workers < 1:
        raise UsageError("--workers: with none, no seed is trained.")
    seeds, batch = parse_seeds(args.seeds), uuid.uuid4().hex[:8]
    logs = log_folder / "seeds" / batch
    call = ("-m", "sb3_stable_ppo", "train", *flags, "--no-progress")
    jobs = {seed: Job(f"seed_{seed}", (*call, "--seed", str(seed), "--task", f"{batch}/{seed}")) for seed in seeds}
    run_jobs = run_here if args.ray is None else partial(run_on_ray, address=args.ray, gpus=args.worker_gpus)
    known: set[str] = set()

    def look(statuses: Statuses) -> None:
        for name in statuses.keys() - known:
            known.add(name)
            if statuses[name] == EXIT_USAGE:  # which is told below
                continue
            how = "ended" if statuses[name] == 0 else f"failed: {last_line(logs / f'{name}.log')}"
            print(f"{name} {how} ({len(known)} of {len(jobs)})", flush=True)

    print(f"{len(seeds)} seeds; what each prints is in {logs}", flush=True)
    interrupted, statuses = False, Statuses()
    try:
        with handled(signal.SIGTERM):
            statuses = run_jobs(list(jobs.values()), args.workers, logs, {}, look)
    except KeyboardInterrupt:
        interrupted = True
    wrong = next((name for name, status in statuses.items() if status == EXIT_USAGE), None)
    if wrong is not None:
        raise UsageError(f"{wrong}: {last_line(logs / f'{wrong}.log')}")
    finished = show(log_folder, {seed: f"{batch}/{seed}" for seed in seeds})
    return 130 if interrupted else int(finished < len(seeds))


def move_dead_attempt(log_folder: Path, task: str) -> None:
    """
    Move what an earlier process of the same task left of its run out of the way: its curves are not to count beside
    those of the run that is done again.

    :param log_folder: of ``train``
    :param task: which run of which call
    """
    for folder in _folders(log_folder, task):
        died = log_folder / CRASHED
        died.mkdir(exist_ok=True)
        names = (f"{folder.name}_{task.replace('/', '_')}_{number}" for number in range(1000))
        shutil.move(folder, died / next(name for name in names if not (died / name).exists()))


def show(log_folder: Path, tasks: dict[int, str]) -> int:
    """
    Print how the runs ended, and the mean of their returns.

    :param log_folder: of ``train``
    :param tasks: by seed
    :return: how many were trained to their end
    """
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "seed", "status", "steps", "return", "live", "folder", title="Return: of the last evaluation, or late"
    )
    returns, finished = [], 0
    for seed, task in tasks.items():
        for folder in _folders(log_folder, task):
            run = read_run(folder)
            last = _last_return(run)
            finished += run.status == "finished"
            if run.status == "finished" and last is not None:
                returns.append(last)
            told = "-" if last is None else f"{last:.4g}"
            table.add_row(str(seed), run.status, f"{run.steps:,}", told, _least_live(run), str(folder))
    console = Console()
    console.print(table)
    if len(returns) > 1:
        spread = f"{statistics.fmean(returns):.4g} ± {statistics.stdev(returns):.4g}"
        console.print(f"Return of {len(returns)} finished runs: {spread} (mean and standard deviation)")
    return finished


def _folders(log_folder: Path, task: str) -> list[Path]:
    found = sorted(log_folder.glob("*/*/run.json"))
    return [path.parent for path in found if RunReader(path.parent).facts.get("task") == task]


def _last_return(run: RunData) -> float | None:
    for name in (EVALUATION, RETURN):
        if name in run.curves and len(run.curves[name].values):
            return float(run.curves[name].values[-1])
    return None


def _least_live(run: RunData) -> str:
    """Of the layers that the actions come from, the least share of live units at the end."""
    shares = [found.values[-1] for name, found in live_shares(run.health).items() if not is_critic_layer(name)]
    return f"{min(shares):.0%}" if shares else "-"
