"""The command line that all benchmarks share, cells in processes of their own, and Markdown tables."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from record import RESULTS, folder


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
