"""
``sb3-stable-ppo report``: look at runs.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from sb3_stable_ppo.cli.arguments import parser_of, positive_int
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.common.packages import PROGRAM
from sb3_stable_ppo.report.write import missing, write_report
from sb3_stable_ppo.runs.data import RunData, read_run
from sb3_stable_ppo.runs.folder import RunReader
from sb3_stable_ppo.runs.models import run_of_model
from sb3_stable_ppo.runs.series import RETURN, finite
from sb3_stable_ppo.snapshots.timeline import MAX_FRAMES, timeline_of

DESCRIPTION = """\
Write a page that shows whether a run's network lives, or one that compares several runs."""


def parser() -> argparse.ArgumentParser:
    """The flags of ``report``."""
    found = parser_of("report", DESCRIPTION, "logs/ppo/CartPole-v1_1 logs/stable_ppo/CartPole-v1_1 -o compare.html")
    found.add_argument(
        "runs",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="run folders, this package's, plain SB3's or rl_zoo3's; a model's zip stands for the run that it lies in",
    )
    found.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="the page (default: report.html in the run folder; of several runs: comparison.html here)",
    )
    found.add_argument(
        "--gif", type=Path, metavar="FILE", help="also write the timeline of the first run as a GIF (default: no GIF)"
    )
    found.add_argument(
        "--strip",
        type=Path,
        metavar="FOLDER",
        help="also write pictures of that timeline as PNGs, for a paper (default: no PNGs)",
    )
    found.add_argument(
        "--columns", type=positive_int, default=5, metavar="N", help="steps that the strip shows (default: %(default)s)"
    )
    found.add_argument(
        "--frames",
        type=positive_int,
        default=MAX_FRAMES,
        metavar="N",
        help="steps that the GIF shows at most (default: %(default)s)",
    )
    found.add_argument("--watch", action="store_true", help="rewrite the page until the run ends")
    found.add_argument(
        "--every",
        type=positive_int,
        default=30,
        metavar="SECONDS",
        help="with --watch: seconds between two pages (default: %(default)s)",
    )
    return found


def run(argv: list[str]) -> int:
    """write a page that shows whether a run's network lives, or compare several runs"""
    args = parser().parse_args(argv)
    if missing():
        raise UsageError(f"report needs {', '.join(missing())}: pip install 'sb3-stable-ppo[report]'.")
    args.runs = [run_of_model(path) if path.is_file() and path.suffix == ".zip" else path for path in args.runs]
    found = _read(args.runs)
    output = args.output or (args.runs[0] / "report.html" if len(found) == 1 else Path("comparison.html"))
    targets = [("--output", output), ("--gif", args.gif)]
    for flag, path in [(flag, path) for flag, path in targets if path is not None]:
        if path.is_dir() or not path.parent.is_dir():
            raise UsageError(f"{flag} {path}: {'a folder' if path.is_dir() else 'its folder does not exist'}.")
    if args.gif and args.gif.suffix != ".gif":
        raise UsageError(f"--gif {args.gif}: the name of a GIF ends in .gif.")
    timeline = timeline_of(RunReader(args.runs[0]), args.frames) if args.gif or args.strip else None
    if timeline is not None and not timeline.steps:
        raise UsageError(f"{args.runs[0]} holds no snapshots to make pictures of.")
    if args.watch:
        _watch(args.runs, output, args.every)
        found = _read(args.runs)
    write_report(found, output)
    print(output)
    if timeline is not None:
        from sb3_stable_ppo.snapshots.export import write_gif, write_strip

        returns = finite(found[0].curves.get(RETURN))
        try:
            if args.gif:
                write_gif(timeline, args.gif, returns)
                print(args.gif)
            if args.strip:
                print(write_strip(timeline, args.strip, args.columns, returns))
        except OSError as error:
            raise UsageError(f"{args.gif or ''} {args.strip or ''}: {error}".strip()) from error
    return 0


def _read(folders: list[Path]) -> list[RunData]:
    """Each run once, however often and by whatever names it was given."""
    unique = {folder.resolve(): folder for folder in reversed(folders)}
    return [read_run(folder) for folder in folders if unique.pop(folder.resolve(), None) is not None]


def _watch(folders: list[Path], output: Path, every: int) -> None:
    """Rewrite the page until no run is running, or until Ctrl-C."""
    runs = _read(folders)
    if not any(run.status == "running" for run in runs):
        told = "; ".join(f"{run.name}: {run.status}" for run in runs)
        print(f"{PROGRAM}: --watch: no run goes on ({told}), so the page is written once.", file=sys.stderr)
    try:
        while any(run.status == "running" for run in runs):
            write_report(runs, output, refresh=every)
            print(f"{output}: step {', '.join(f'{run.steps:,}' for run in runs)}", flush=True)
            time.sleep(every)
            runs = _read(folders)
    except KeyboardInterrupt:
        print()
