"""
What a report costs: rendering time and memory, the page's weight, and how long Chromium takes to open it.

    python benchmarks/report_cost.py            # three rounds, five minutes
    python benchmarks/report_cost.py --table

The run is synthesised through ``runs.py``: 2M steps of Pong at 1,024 steps a rollout (1,953 lines of health and of
progress.csv, 500 snapshots, which is all that a folder keeps). Each round renders in a process of its own, as the
command does, then opens the page in a new browser: until it has loaded (timeline and all, charts not yet), and until
the charts that are in sight are drawn. Each round is a line in results/report_cost.jsonl.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from record import finished, is_done, record

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from run_folders import write_run

NAME, ROLLOUTS, SNAPSHOTS = "report_cost", 1953, 500
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


def render(folder: str) -> None:
    """In a process of its own: print seconds, and the process's largest memory."""
    start = time.perf_counter()
    from sb3_stable_ppo.cli.main import main as command_line

    command_line(["report", folder])
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"render_s": round(seconds, 2), "render_mb": round(peak)}))


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
    command = [sys.executable, __file__, "--render", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    page = folder / "report.html"
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**figures, **open_page(page), "page_mb": round(page.stat().st_size / 1e6, 2)}


def table() -> str:
    rows = list(finished(NAME))
    lines = ["| figure | median | smallest | largest |", "|---|---|---|---|"]
    for name in ("render_s", "render_mb", "page_mb", "load_s", "drawn_s"):
        values = sorted(row[name] for row in rows)
        lines.append(f"| {name} | {median(values)} | {values[0]} | {values[-1]} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--table", action="store_true", help="only print what is on record")
    parser.add_argument("--render", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.render:
        render(args.render)
        return
    with tempfile.TemporaryDirectory() as folder:
        cells = [{"round": number, "rollouts": ROLLOUTS, "snapshots": SNAPSHOTS} for number in range(args.rounds)]
        open_cells = [cell for cell in cells if not args.table and not is_done(NAME, cell)]
        if open_cells:
            write_run(Path(folder) / "run", ROLLOUTS, SNAPSHOTS)
        for cell in open_cells:
            record(NAME, cell, measure(Path(folder) / "run"))
    print(table())


if __name__ == "__main__":
    main()
