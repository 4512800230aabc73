"""The command line that all benchmarks share, cells in processes of their own, and Markdown tables."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from record import RESULTS, folder, run_missing


def benchmark_parser(description: str | None) -> argparse.ArgumentParser:
    """
    A parser with the flags of every benchmark. A script's ``options()`` returns it with the script's own flags.

    :param description: the script's docstring
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="only print what is on record")
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="only check that this benchmark works: one cell, a few hundred steps, recorded in the folder that the "
        "environment variable BENCHMARK_RESULTS names, or in a temporary one",
    )
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """
    Parse the command line. With ``--smoke``, results never go where those of real runs lie.

    :param parser: as ``options()`` returns it
    """
    args = parser.parse_args()
    if args.smoke:
        if not os.environ.get("BENCHMARK_RESULTS"):
            os.environ["BENCHMARK_RESULTS"] = tempfile.mkdtemp(prefix="benchmark_smoke_")  # child processes see it too
        if folder().resolve() == RESULTS:
            parser.error(f"--smoke does not record in {RESULTS}, where real results lie: unset BENCHMARK_RESULTS.")
    return args


def add_cell_flag(parser: argparse.ArgumentParser) -> None:
    """The flag by which :func:`in_a_process` calls a script again."""
    parser.add_argument("--cell", type=json.loads, help="run one cell, given as JSON, and print its figures")


def in_a_process(script: str, cell: Mapping[str, Any], *flags: str) -> dict[str, Any]:
    """
    Run a cell in a process of its own, so that neither memory nor threads are shared with another.

    :param script: the benchmark, which prints the cell's figures as its last line when given ``--cell``
    :param cell: what to run
    :param flags: further ones for the script
    """
    command = [sys.executable, str(Path(script).resolve()), "--cell", json.dumps(dict(cell)), *flags]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def run_here(
    name: str,
    args: argparse.Namespace,
    cells: Iterable[dict[str, Any]],
    run: Callable[..., Mapping[str, Any]],
    table: Callable[[], str],
) -> None:
    """
    What is left of a benchmark whose cells run in this process, once its command line is read: run those that are not
    on record, and print the table.

    :param name: the benchmark's
    :param args: as :func:`parsed` returns them
    :param cells: what to run, or with ``--smoke`` the smallest
    :param run: takes a cell's entries as keywords and returns its figures
    :param table: what is on record, in words
    """
    run_missing(name, cells if not args.table else (), lambda cell: run(**cell))
    print(table())


def run_in_processes(
    script: str,
    name: str | Callable[[dict[str, Any]], str],
    args: argparse.Namespace,
    cells: Iterable[dict[str, Any]],
    run: Callable[..., Mapping[str, Any]],
    table: Callable[[], str],
    workers: int = 1,
) -> None:
    """
    What is left of a benchmark whose cells run in processes of their own, once its command line is read: run those that
    are not on record, and print the table; or, with ``--cell``, run that one alone and print its figures. With
    ``--smoke``, which measures nothing, the cell runs in this process, since a new one imports torch for seconds.

    :param script: the benchmark's ``__file__``
    :param name: the benchmark's; or a function of the cell, where not all are recorded under the same
    :param args: as :func:`parsed` returns them, with ``--cell``
    :param cells: what to run, or with ``--smoke`` the smallest
    :param run: takes a cell's entries as keywords and returns its figures
    :param table: what is on record, in words
    :param workers: processes at a time
    """
    if args.cell:
        print(json.dumps(run(**args.cell)))
        return

    def run_one(cell: dict[str, Any]) -> None:
        called = name if isinstance(name, str) else name(cell)
        run_missing(called, [cell], lambda each: run(**each) if args.smoke else in_a_process(script, each))

    if not args.table:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(run_one, cells))
    print(table())


def markdown(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """
    A Markdown table.

    :param heads: the columns' names
    :param rows: as many cells each
    """
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def with_range(values: Sequence[float], middle: float, form: str) -> str:
    """
    A figure and the smallest and largest of the values that it stands for.

    :param values: of all seeds or rounds
    :param middle: their mean or median
    :param form: a format specification
    """
    return f"{middle:{form}} ({min(values):{form}} to {max(values):{form}})"
