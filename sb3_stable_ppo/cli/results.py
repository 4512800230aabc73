"""
What ``train`` tells of a run when it has ended: a table of the layers, and the report.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sb3_stable_ppo.common.packages import PROGRAM
from sb3_stable_ppo.report.write import missing, write_report
from sb3_stable_ppo.runs.data import read_run
from sb3_stable_ppo.runs.folder import RunReader


def print_results(folder: Path) -> None:
    """
    Where a run's results are, and how its layers fared.

    :param folder: the run folder; nothing is printed if there is none
    """
    if not folder.is_dir():
        return
    from rich.console import Console
    from rich.table import Table

    reader = RunReader(folder)
    console = Console()
    console.print(f"\nResults ({reader.facts.get('status', 'unknown')}): [bold]{folder}[/bold]")
    health = list(reader.health())
    if not health:
        return
    first, last = health[0], health[-1]
    table = Table(title="Live units per layer (a positive output on some of 64 observations)")
    table.add_column("layer")
    table.add_column("units", justify="right")
    table.add_column(f"step {first['step']:,}", justify="right")
    table.add_column(f"step {last['step']:,}", justify="right")
    for layer, figures in last["layers"].items():
        before = first["layers"].get(layer, figures)
        table.add_row(layer, *(str(int(n)) for n in (figures["units"], before["live"], figures["live"])))
    console.print(table)


def leave_report(folder: Path) -> None:
    """
    Write ``report.html``, if plotly is there. A run that is done is not lost over its picture.

    :param folder: the run folder; nothing is written if there is none
    """
    if not folder.is_dir() or missing():
        return
    try:
        write_report([read_run(folder)], folder / "report.html")
    except Exception as error:
        print(f"{PROGRAM}: no report: {type(error).__name__}: {error}", file=sys.stderr)
    else:
        print(f"Report: {folder / 'report.html'}")
