"""
The picture of docs/report.md: a page that compares a healthy run and a collapsed one, as a browser shows it.

    python benchmarks/report_picture.py --picture docs/img/report.png   # trains both, two minutes on one core
    python benchmarks/report_picture.py --folder logs/picture --picture docs/img/report.png
    python benchmarks/report_picture.py --table

The healthy run is Pong as the configuration has it today; the collapsed one is stock PPO with rl_zoo3's settings and
the changes of ``COLLAPSED``. A folder holds them as healthy/ and collapsed/; what it lacks is trained. A line of
results/report_picture.jsonl says what the runs were and how they ended. A test fails when the configuration in its last
line is no longer today's.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from command import benchmark_parser, markdown, parsed
from make_pong import GAME, configuration as pong_configuration
from record import finished, is_done, record
from report_cost import FLAGS
from sb3_stable_ppo.report.page import render
from sb3_stable_ppo.report.verdict import verdict_of
from sb3_stable_ppo.runs.data import RunData, read_run
from sb3_stable_ppo.runs.folder import RunReader
from sb3_stable_ppo.snapshots.timeline import timeline_of
from sb3_stable_ppo.zoo.hyperparams import with_numbers

NAME, STEPS, SMOKE_STEPS, SEED, WIDTH = "report_picture", 10_240, 1024, 1, 1250
COLLAPSED: dict[str, Any] = {"learning_rate": 5e-3, "n_epochs": 10, "clip_range": 0.2}
CALLBACKS = ["sb3_stable_ppo.HealthCallback", {"sb3_stable_ppo.ActivationSnapshotCallback": {"every": 1000}}]
RUNS: dict[str, tuple[str, list[str]]] = {
    "healthy": ("stable_ppo", []),
    "collapsed": (
        "ppo",
        ["-params", *(f"{key}:{value!r}" for key, value in {**COLLAPSED, "callback": CALLBACKS}.items())],
    ),
}
"""By the name on the page: the algorithm, and further flags of ``train``."""


def configuration() -> dict[str, Any]:
    """What the two runs of the picture differ in, as it is today."""
    return {"steps": STEPS, "seed": SEED, "healthy": pong_configuration(), "collapsed": COLLAPSED}


def train(name: str, steps: int, folder: Path) -> None:
    """Put the run of that name into the folder."""
    algorithm, flags = RUNS[name]
    with tempfile.TemporaryDirectory() as logs:
        command = [sys.executable, "-m", "sb3_stable_ppo", "train", "--algo", algorithm, "--env", GAME, "-f", logs]
        command += ["-n", str(steps), "--seed", str(SEED), "--device", "cpu", "--eval-freq", "-1"]
        subprocess.run([*command, "--no-report", "--no-progress", *flags], check=True, stdout=subprocess.DEVNULL)
        (made,) = Path(logs).glob(f"{algorithm}/{GAME}_*")
        shutil.move(made, folder / name)


def differences(runs: dict[str, RunData], steps: int) -> list[str]:
    """What in the runs is not as it is today, in words."""
    today = configuration()
    found = [
        f"{name} has {key} {run.settings.get(key)}, now {value}"
        for name, run in runs.items()
        for key, value in with_numbers(today[name]).items()
        if run.settings.get(key) != value
    ]
    return found + [f"{name} has {run.steps} steps, now {steps}" for name, run in runs.items() if run.steps != steps]


def figures_of(run: RunData) -> dict[str, Any]:
    """How a run ended."""
    layers = run.health[-1]["layers"]
    return {
        "steps": run.steps,
        "verdict": verdict_of(run, timeline_of(RunReader(run.folder))).word,
        "live": {name: [layer["live"], layer["units"]] for name, layer in layers.items() if "conv" in name},
    }


def shoot(page: Path, picture: Path) -> None:
    """A screenshot of a page, down to the end of its timelines."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        opened = browser.new_page(viewport={"width": WIDTH, "height": 900})
        opened.goto(page.as_uri())
        end = opened.evaluate("document.querySelector('.timelines').getBoundingClientRect().bottom")
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": end + 4}
        opened.screenshot(path=picture, full_page=True, clip=clip)  # type: ignore[arg-type]
        browser.close()


def table() -> str:
    """The two runs of the picture."""
    lines = [
        [
            name,
            f"{row[name]['steps']:,}",
            row[name]["verdict"],
            ", ".join(f"{layer} {live}/{units}" for layer, (live, units) in row[name]["live"].items()),
        ]
        for row in finished(NAME)[-1:]
        for name in RUNS
    ]
    return markdown(["run", "steps", "verdict", "live units at the end"], lines)


def take(folder: Path, steps: int, picture: Path | None) -> None:
    """Train what the folder lacks, record the runs, and make the picture."""
    for name in RUNS:
        if not (folder / name).is_dir():
            train(name, steps, folder)
    runs = {name: read_run(folder / name) for name in RUNS}
    different = differences(runs, steps)
    if different:
        sys.exit(f"The runs in {folder} are not those of today: {'; '.join(different)}. Remove them to train anew.")
    cell = {"configuration": {**configuration(), "steps": steps}}
    if not is_done(NAME, cell):
        record(NAME, cell, {name: figures_of(run) for name, run in runs.items()})
    if picture is not None:
        page = folder / "comparison.html"
        page.write_text(render(list(runs.values())), encoding="utf-8")
        shoot(page.resolve(), picture)


def options() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--folder", type=Path, help="of the two runs (default: a temporary one)")
    parser.add_argument("--picture", type=Path, help="the screenshot to write, a PNG")
    return parser


def main() -> None:
    args = parsed(options())
    if not args.table:
        with tempfile.TemporaryDirectory() as temporary:
            folder = args.folder or Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            take(folder, SMOKE_STEPS if args.smoke else STEPS, args.picture)
    print(table())


if __name__ == "__main__":
    main()
