"""
``sb3-stable-ppo plot``: rl_zoo3's plots of returns, over our runs too.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

from sb3_stable_ppo.common.errors import UsageError, described
from sb3_stable_ppo.common.packages import PROGRAM
from sb3_stable_ppo.common.patching import patched

SCRIPTS = {"train": "plot_train", "all": "all_plots", "file": "plot_from_file"}
NEEDED = ("rl_zoo3", "matplotlib", "seaborn", "scipy", "pandas")


def run(argv: list[str]) -> int:
    """rl_zoo3's plots: plot train (returns of runs), all (evaluations, over seeds), file (what all has saved)"""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"plot needs {', '.join(missing)}: pip install 'sb3-stable-ppo[zoo,report]'.")
    parser = argparse.ArgumentParser(prog=f"{PROGRAM} plot", description=run.__doc__, allow_abbrev=False)
    parser.add_argument("script", choices=list(SCRIPTS), help="rl_zoo3's plot_train, all_plots or plot_from_file")
    script = SCRIPTS[parser.parse_args(argv[:1]).script]
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument("--save", type=Path)
    args, rest = own.parse_known_args(argv[1:])
    if "-h" in rest or "--help" in rest:
        print("Beside rl_zoo3's own flags below: --save FILE (the last figure, in place of a window).\n")
    import matplotlib as mpl

    if args.save is not None:
        mpl.use("Agg")
    from matplotlib import pyplot as plt
    from rl_zoo3 import plots

    with patched(sys, "argv", [f"{PROGRAM} plot {argv[0]}", *rest]):
        try:
            getattr(plots, script)()
            if args.save is not None:
                plt.savefig(args.save)
                print(args.save)
        except (ValueError, KeyError, OSError, AssertionError) as error:
            raise UsageError(f"plot {argv[0]}: {described(error)}") from error
    return 0
