"""
``sb3-stable-ppo report``: look at runs.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from sb3_stable_ppo.cli.arguments import parser_of, positive_int
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.common.packages import PROGRAM
from sb3_stable_ppo.report.write import missing, write_report
from sb3_stable_ppo.runs.data import RunData, read_run
from sb3_stable_ppo.runs.folder import RunReader
from sb3_stable_ppo.snapshots.timeline import timeline_of


def run(argv: list[str]) -> int:
    """write a page that shows whether a run's network lives, or compare several runs"""
    parser = parser_of("report", run.__doc__)
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="run folders, ours or plain SB3's or rl_zoo3's"
    )
    parser.add_argument(
        "-o", "--output", type=Path, help="the page (report.html in the run; of several: comparison.html)"
    )
    parser.add_argument("--gif", type=Path, metavar="FILE", help="also write the timeline of the first run as a GIF")
    parser.add_argument(
        "--strip", type=Path, metavar="FOLDER", help="also write pictures of that timeline as PNGs, for a paper"
    )
    parser.add_argument("--columns", type=positive_int, default=5, help="how many steps the strip shows (%(default)s)")
    parser.add_argument("--watch", action="store_true", help="rewrite the page until the run ends")
    parser.add_argument("--every", type=positive_int, default=30, help="seconds between two pages (%(default)s)")
    args = parser.parse_args(argv)
    if missing():
        raise UsageError(f"report needs {', '.join(missing())}: pip install 'sb3-stable-ppo[report]'.")
    found = _read(args.runs)
    output = args.output or (args.runs[0] / "report.html" if len(found) == 1 else Path("comparison.html"))
    targets = [("--output", output), ("--gif", args.gif)]
    for flag, path in [(flag, path) for flag, path in targets if path is not None]:
        if path.is_dir() or not path.parent.is_dir():
            raise UsageError(f"{flag} {path}: {'a folder' if path.is_dir() else 'its folder does not exist'}.")
    if args.gif and args.gif.suffix != ".gif":
        raise UsageError(f"--gif {args.gif}: the name of a GIF ends in .gif.")
    timeline = timeline_of(RunReader(args.runs[0])) if args.gif or args.strip else None
    if timeline is not None and not timeline.steps:
        raise UsageError(f"{args.runs[0]} holds no snapshots to make pictures of.")
    if args.watch:
        _watch(args.runs, output, args.every)
        found = _read(args.runs)
    write_report(found, output)
    print(output)
    if timeline is not None:
        from sb3_stable_ppo.snapshots.export import write_gif, write_strip

        try:
            if args.gif:
                write_gif(timeline, args.gif)
                print(args.gif)
            if args.strip:
                print(write_strip(timeline, args.strip, args.columns))
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
