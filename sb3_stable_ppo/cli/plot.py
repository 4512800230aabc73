"""
``sb3-stable-ppo plot``: rl_zoo3's plots of returns, over our runs too.
"""

from __future__ import annotations

import argparse
import importlib.util
import pickle
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from sb3_stable_ppo.cli.arguments import BriefParser, parser_of, show_help
from sb3_stable_ppo.common.errors import UsageError, described
from sb3_stable_ppo.common.packages import PROGRAM
from sb3_stable_ppo.common.patching import patched

SCRIPTS = {"train": "plot_train", "all": "all_plots", "file": "plot_from_file"}
WHAT_IT_DRAWS = {
    "train": "runs of these envs with --episode-window (100) finished episodes or more",
    "all": "runs of these envs with two evaluations or more",
    "file": "a file that `plot all -o` has saved, with runs in it",
}
PACKAGES = ("rl_zoo3", "matplotlib", "seaborn", "scipy", "pandas")
NEEDED = {
    "train": {"algos": ("-a", "--algo"), "envs": ("-e", "--env"), "folders": ("-f", "--exp-folder")},
    "all": {"algos": ("-a", "--algos"), "envs": ("-e", "--env"), "folders": ("-f", "--exp-folders")},
    "file": {"input": ("-i", "--input")},
}
"""Flags of rl_zoo3's scripts without which they can draw nothing; most of them fail obscurely."""
EXAMPLES = {
    "train": "-a stable_ppo -e CartPole-v1 -f logs",
    "all": "-a stable_ppo -e CartPole-v1 -f logs",
    "file": "-i returns.pkl",
}
DESCRIPTION = """\
Draw returns with rl_zoo3's plots. Each has flags of its own: `plot train --help` shows them."""


def parser() -> argparse.ArgumentParser:
    """Our own arguments of ``plot``; rl_zoo3 parses the others."""
    found = parser_of("plot", DESCRIPTION, "train -a stable_ppo -e CartPole-v1 -f logs --save returns.png")
    found.add_argument(
        "script",
        choices=list(SCRIPTS),
        help="train: returns of training runs; all: evaluations, means over seeds; file: what `all` has saved "
        "(rl_zoo3's plot_train, all_plots, plot_from_file)",
    )
    found.add_argument(
        "--save", type=Path, metavar="FILE", help="write the last figure to FILE (default: show it in a window)"
    )
    return found


def run(argv: list[str]) -> int:
    """rl_zoo3's plots: plot train (returns of runs), all (evaluations, over seeds), file (what all has saved)"""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"plot needs {', '.join(missing)}: pip install 'sb3-stable-ppo[zoo,report]'.")
    script = SCRIPTS[parser().parse_args(argv[:1]).script]
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument("--save", type=Path)
    args, rest = own.parse_known_args(argv[1:])
    import matplotlib as mpl

    if args.save is not None:
        mpl.use("Agg")
    from matplotlib import pyplot as plt
    from rl_zoo3 import plots

    draw: Callable[[], None] = getattr(plots, script)
    with patched(sys, "argv", [f"{PROGRAM} plot {argv[0]}", *rest]):
        if {"-h", "--help"} & set(rest):
            show_help(parser(), f"rl_zoo3's {script}", draw)
            return 0
        _check(argv[0], rest)
        plt.close("all")
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "No artists with labels")  # of a legend; told below
                draw()
            figures = [plt.figure(number) for number in plt.get_fignums()]  # none that was closed on a screen
            if figures and not any(axes.has_data() for figure in figures for axes in figure.axes):
                raise UsageError(f"plot {argv[0]}: nothing is drawn; it takes {WHAT_IT_DRAWS[argv[0]]}.")
            if args.save is not None:
                plt.savefig(args.save)
                print(args.save)
        except (ValueError, KeyError, OSError, AssertionError, EOFError, pickle.UnpicklingError) as error:
            raise UsageError(f"plot {argv[0]}: {described(error)}") from error
    return 0


def _check(script: str, argv: Sequence[str]) -> None:
    """
    :param script: what is drawn
    :param argv: its arguments, which rl_zoo3 parses
    :raises UsageError: if one is missing without which nothing can be drawn, or no run is there by these names
    """
    theirs = BriefParser(prog=f"{PROGRAM} plot {script}", add_help=False)
    for dest, names in NEEDED[script].items():
        theirs.add_argument(*names, dest=dest, nargs="+")
    if script == "file":
        theirs.add_argument("-iqm", "--iqm", action="store_true")  # which is not -i
    args, _ = theirs.parse_known_args(argv)
    missing = [f"{names[0]} ({names[1]})" for dest, names in NEEDED[script].items() if getattr(args, dest) is None]
    if missing:
        raise UsageError(f"plot {script} needs {', '.join(missing)}: plot {script} {EXAMPLES[script]}.")
    if script != "file":
        _check_runs(script, args.algos, args.envs, [Path(folder) for folder in args.folders])


def _check_runs(script: str, algos: Iterable[str], envs: Iterable[str], folders: Sequence[Path]) -> None:
    """
    rl_zoo3's table has 0.0 for what is not there.

    :raises UsageError: for an algorithm or an env of which no folder has a run
    """
    inside = sorted({path.parent.name for folder in folders for path in folder.glob("*/*_[0-9]*") if path.is_dir()})
    runs = set()
    for algo in algos:
        places = [folder / (algo.lower() if script == "all" else algo) for folder in folders]  # as rl_zoo3 has it
        if not any(place.is_dir() for place in places):
            known = f" Algorithms with runs there: {', '.join(inside)}." if inside else ""
            raise UsageError(f"plot {script}: there is no folder {' or '.join(map(str, places))}.{known}")
        runs |= {path.name for place in places for path in place.glob("*") if path.is_dir()}
    for env in envs:
        if not any(env in run for run in runs):
            known = ", ".join(sorted({run.rpartition("_")[0] or run for run in runs}))
            raise UsageError(f"plot {script}: there is no run of {env}. Envs with runs there: {known or 'none'}.")
