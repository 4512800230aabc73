"""
``sb3-stable-ppo plot``: rl_zoo3's plots of returns, over our runs too.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from sb3_stable_ppo.cli.arguments import parser_of, show_help
from sb3_stable_ppo.common.errors import UsageError, described
from sb3_stable_ppo.common.packages import PROGRAM
from sb3_stable_ppo.common.patching import patched

SCRIPTS = {"train": "plot_train", "all": "all_plots", "file": "plot_from_file"}
WHAT_IT_DRAWS = {
    "train": "runs of these envs with --episode-window (100) finished episodes or more",
    "all": "runs of these envs with two evaluations or more",
    "file": "a file that `plot all -o` has saved, with runs in it",
}
NEEDED = ("rl_zoo3", "matplotlib", "seaborn", "scipy", "pandas")
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
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
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
        except (ValueError, KeyError, OSError, AssertionError) as error:
            raise UsageError(f"plot {argv[0]}: {described(error)}") from error
    return 0
