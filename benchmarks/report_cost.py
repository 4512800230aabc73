"""
What a report costs: rendering time and memory, the page's weight, and how long Chromium takes to open it.

    python benchmarks/report_cost.py            # three rounds, five minutes
    python benchmarks/report_cost.py --table

The run is written by tests/helpers/run_folders.py: 2M steps of Pong at 1,024 steps a rollout (1,953 lines of health and
of progress.csv, 500 snapshots, which is all that a folder keeps). Each round renders in a process of its own, as the
command does, then opens the page in a new browser: until it has loaded (timeline and all, charts not yet), and until
the charts that are in sight are drawn. Each round is a line in results/report_cost.jsonl.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from command import add_cell_flag, benchmark_parser, in_a_process, markdown, parsed
from record import finished, is_done, run_missing

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from helpers.run_folders import write_run

NAME, ROLLOUTS, SNAPSHOTS = "report_cost", 1953, 500
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


def render(folder: str) -> dict[str, float]:
    """In a process of its own: seconds, and the process's largest memory."""
    start = time.perf_counter()
    from sb3_stable_ppo.cli import main as command_line

    command_line(["report", folder])
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"render_s": round(seconds, 2), "render_mb": round(peak)}


def open_page(path: Path) -> dict[str, float]:
    """Seconds of Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": 1300, "height": 900})
        start = time.perf_counter()
        page.goto(path.as_uri(), wait_until="load")
        loaded = time.perf_counter() - start
        page.locator(".js-plotly-plot .main-svg").first.wait_for(state="attached")
        drawn = time.perf_counter() - start
        browser.close()
    return {"load_s": round(loaded, 2), "drawn_s": round(drawn, 2)}


def measure(folder: Path) -> dict[str, Any]:
    figures = in_a_process(__file__, {"folder": str(folder)})
    page = folder / "report.html"
    return {**figures, **open_page(page), "page_mb": round(page.stat().st_size / 1e6, 2)}


def table() -> str:
    """The table of docs/report.md."""
    rows = finished(NAME)

    def of(name: str, form: str) -> str:
        values = sorted(row[name] for row in rows)
        return f"{median(values):{form}} s ({values[0]:{form}}, {values[-1]:{form}})"

    lines = []
    if rows:
        lines = [
            [
                "rendering, from the command to the page",
                f"{of('render_s', '.2f')}, {rows_median(rows, 'render_mb'):.0f} MB",
            ],
            ["the page", f"{rows_median(rows, 'page_mb'):.1f} MB"],
            ["opening it in Chromium: loaded", of("load_s", ".2f")],
            ["first charts drawn", of("drawn_s", ".2f")],
        ]
    return markdown(["", f"median of {len(rows)} (smallest, largest)"], lines)


def rows_median(rows: list[dict[str, Any]], name: str) -> float:
    return float(median(row[name] for row in rows))


def options() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    add_cell_flag(parser)
    return parser


def main() -> None:
    args = parsed(options())
    if args.cell:
        print(json.dumps(render(args.cell["folder"])))
        return
    rollouts, snapshots, rounds = (40, 4, 1) if args.smoke else (ROLLOUTS, SNAPSHOTS, args.rounds)
    cells = [{"round": number, "rollouts": rollouts, "snapshots": snapshots} for number in range(rounds)]
    missing = [cell for cell in cells if not args.table and not is_done(NAME, cell)]
    with tempfile.TemporaryDirectory() as folder:
        if missing:
            write_run(Path(folder) / "run", rollouts, snapshots)
        run_missing(NAME, missing, lambda _: measure(Path(folder) / "run"))
    print(table())


if __name__ == "__main__":
    main()
