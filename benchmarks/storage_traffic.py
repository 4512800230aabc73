"""
What tuning's bookkeeping costs, and what many workers do to a storage: trials that train nothing, by workers that
import no torch, with the code that real workers use.

    python tests/helpers/postgres_server.py --max-connections 300          # prints a URL; or a server of one's own
    python benchmarks/storage_traffic.py --storage URL --workers 100          # as fast as they can
    python benchmarks/storage_traffic.py --storage URL --workers 100 --think 10
    python benchmarks/storage_traffic.py --storage journal.log --workers 1    # or sqlite:///study.db
    python benchmarks/storage_traffic.py --table

Each finished run is a line in results/storage_traffic.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from command import benchmark_parser, markdown, parsed
from record import finished, folder, record
from sb3_stable_ppo.studies.space import sample
from sb3_stable_ppo.studies.storage import open_storage
from sb3_stable_ppo.studies.study import SurplusTrial, claim, effective_trials, n_remaining, open_study

NAME = "storage_traffic"
PARTS = ("claim", "suggest", "report", "ask and tell")
REPORTS = 5


class Clock:
    """Seconds spent in each part of each trial."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = {part: [] for part in PARTS}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.spent[name].append(time.perf_counter() - start)


def work(where: str, name: str, sampler: str, think: float, goal: int, folder: Path) -> dict[str, Any]:
    """One worker: trials until none waits. What each part cost it, and what went wrong."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    clock, errors, done = Clock(), Counter[str](), 0
    try:
        study = open_study(open_storage(where), name, {}, "median", os.getpid(), 1)
        if sampler == "random":
            study.sampler = optuna.samplers.RandomSampler()
    except Exception as error:
        return {"errors": {" ".join(str(error).split())[-80:]: 1}, "began": False, "done": 0, "spent": {}}
    finally:
        print("ready, or not", flush=True)
    while not (folder / "go").exists():
        time.sleep(0.05)
    within = 0.0

    def objective(trial: Any) -> float:
        nonlocal within
        start = time.perf_counter()
        with clock.part("claim"):
            claim(trial, goal)
        with clock.part("suggest"):
            params = sample(trial, guarded=True)
        for step in range(REPORTS):
            time.sleep(think / REPORTS)
            with clock.part("report"):
                trial.report(params["learning_rate"] * step, step)
                trial.should_prune()
        within = time.perf_counter() - start
        return float(params["learning_rate"])

    while n_remaining(study, goal):
        start = time.perf_counter()
        try:
            study.optimize(objective, n_trials=1, catch=(SurplusTrial,))
            clock.spent["ask and tell"].append(time.perf_counter() - start - within)
            done += 1
        except Exception as error:
            errors[" ".join(str(error).split())[:80]] += 1
    return {"errors": errors, "began": True, "done": done, "spent": clock.spent}


def connections(where: str) -> tuple[int, int] | None:
    """Of a PostgreSQL: how many there are, and may be."""
    if not where.startswith("postgresql"):
        return None
    import psycopg

    with psycopg.connect(where.replace("+psycopg", "")) as asked:
        used = asked.execute("select count(*) from pg_stat_activity where backend_type = 'client backend'").fetchone()
        most = asked.execute("show max_connections").fetchone()
    assert used is not None
    assert most is not None
    return int(used[0]) - 1, int(most[0])


def run(where: str, n_workers: int, n_trials: int, sampler: str, think: float) -> dict[str, Any]:
    """All workers are ready before the first trial begins."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    name, folder = uuid.uuid4().hex[:8], Path(tempfile.mkdtemp())
    study = open_study(open_storage(where), name, {}, "median", 0, 1)
    me = [sys.executable, __file__, "--worker", name, "--sampler", sampler, "--think", str(think)]
    me += ["--trials", str(n_trials), "--folder", str(folder)]
    environment = {**os.environ, "STORAGE": where, "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(me, stdout=subprocess.PIPE, text=True, env=environment, cwd=Path(__file__).parent)
        for _ in range(n_workers)
    ]
    for worker in workers:
        assert worker.stdout is not None
        worker.stdout.readline()
    (folder / "go").touch()
    start, peak = time.perf_counter(), (0, 0)
    while any(worker.poll() is None for worker in workers):
        peak = max(peak, connections(where) or (0, 0))
        time.sleep(0.5)
    seconds = time.perf_counter() - start
    lines = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    shutil.rmtree(folder)
    errors: Counter[str] = Counter()
    for line in lines:
        errors.update(line["errors"])
    known = effective_trials(study)
    done = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
    figures: dict[str, Any] = {
        "seconds": round(seconds, 2),
        "trials_per_second": round(sum(line["done"] for line in lines) / seconds, 2),
        "completed": len(done),
        "counted_twice": len(done) - len(known),
        "begun_in_vain": len(study.get_trials(deepcopy=False)) - len(known),
        "workers_that_never_began": sum(not line["began"] for line in lines),
        "errors": errors,
        "connections": list(peak) if peak != (0, 0) else None,
    }
    for part in PARTS:
        spent = np.array([value for line in lines for value in line["spent"].get(part, [])]) * 1e3
        if len(spent):
            figures[f"{part}, ms"] = [round(float(value), 2) for value in np.quantile(spent, [0.5, 0.95])]
    return {**figures, "storage_versions": {p: version(p) for p in ("optuna", "SQLAlchemy", "psycopg")}}


def one_worker() -> str:
    """The table of docs/tuning.md: milliseconds a trial, medians (95th percentiles), means over equal runs."""
    rows = [row for row in finished(NAME) if row["cell"]["workers"] == 1]
    lines = []
    storages = list(dict.fromkeys(row["cell"]["storage"] for row in rows))
    kinds = {(row["cell"]["storage"], row["cell"]["trials"]) for row in rows}
    for storage, trials in sorted(kinds, key=lambda kind: (storages.index(kind[0]), kind[1])):
        equal = [row for row in rows if (row["cell"]["storage"], row["cell"]["trials"]) == (storage, trials)]
        spent = {part: np.mean([row[f"{part}, ms"] for row in equal], axis=0) for part in PARTS}
        in_all = sum(float(spent[part][0]) * (REPORTS if part == "report" else 1) for part in PARTS)
        cells = ["{} ({})".format(*(f"{ms:.1f}" if ms < 2 else f"{ms:.0f}" for ms in spent[part])) for part in PARTS]
        lines.append([storage, trials, *cells, f"{in_all:.0f}"])
    return markdown(["storage", "trials", *PARTS, "in all"], lines)


def many_workers() -> str:
    """The table of docs/scaling.md: medians (95th percentiles) in milliseconds."""
    lines = []
    for row in finished(NAME):
        cell = row["cell"]
        if cell["workers"] > 1:
            used, most = row["connections"] or ("-", "-")
            cells = [cell["trials"], f"{cell['think']:g} s", most, used, f"{row['trials_per_second']:.2g}"]
            cells += ["{:,.0f} ({:,.0f})".format(*row[f"{part}, ms"]) for part in ("report", "ask and tell")]
            lines.append([*cells, row["completed"], row["begun_in_vain"], row["workers_that_never_began"]])
    heads = ["trials", "of", "max_connections", "used at most", "trials per second", "a report, ms", "ask and tell, ms"]
    return markdown([*heads, "completed", "begun in vain", "workers refused"], lines)


def options() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--storage", metavar="URL_OR_FILE", help="a database's URL, or a journal file")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--trials", type=int, default=500, help="in all")
    parser.add_argument("--sampler", choices=["tpe", "random"], default="tpe")
    parser.add_argument("--think", type=float, default=0.0, help="seconds that a trial takes beside the bookkeeping")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser


def main() -> None:
    args = parsed(options())
    if args.worker:
        found = work(os.environ["STORAGE"], args.worker, args.sampler, args.think, args.trials, args.folder)
        (args.folder / f"{os.getpid()}.json").write_text(json.dumps(found))
        return
    if args.smoke:
        args.storage, args.workers, args.trials = str(folder() / "journal.log"), 1, 2
    if args.storage and not args.table:
        kind = args.storage.partition(":")[0].partition("+")[0] if "://" in args.storage else "journal"
        most = connections(args.storage)
        cell = {
            "storage": kind,
            "max_connections": most[1] if most else None,
            "workers": args.workers,
            "trials": args.trials,
            "sampler": args.sampler,
            "think": args.think,
        }
        where = args.storage if "://" in args.storage else str(Path(args.storage).absolute())
        record(NAME, cell, run(where, args.workers, args.trials, args.sampler, args.think))
    print(one_worker(), many_workers(), sep="\n\n")


if __name__ == "__main__":
    main()
