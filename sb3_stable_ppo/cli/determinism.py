"""
``sb3-stable-ppo train --check-determinism``.
"""

from __future__ import annotations

import argparse
import sys

from sb3_stable_ppo.cli.arguments import BriefParser
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.common.packages import PROGRAM


def add_determinism_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Add ``--check-determinism``, and the hidden flag by which it starts each of its runs.

    :param parser: of ``train``
    """
    parser.add_argument(
        "--check-determinism",
        action="store_true",
        help="train 3 updates twice and say where two runs of one seed first differ; exit status 0 if nowhere, else 1; "
        "leaves no run folder (default: train once)",
    )
    parser.add_argument("--record-run", metavar="FILE", help=argparse.SUPPRESS)


def check_determinism_of(own: argparse.Namespace, flags: list[str]) -> int:
    """
    Check, and print what was found.

    :param own: our own flags of ``train``
    :param flags: the others, which are rl_zoo3's
    :return: 0 if there is no difference, else 1
    :raises UsageError: if the flags ask for something that is no single run, or the run fails
    """
    for name in ("seeds", "resume", "task"):
        if getattr(own, name, None) is not None:
            raise UsageError(f"--check-determinism checks one run that begins anew: leave --{name} out.")
    theirs = BriefParser(prog=f"{PROGRAM} train", add_help=False, allow_abbrev=False)
    theirs.add_argument("--seed", type=int, default=0)
    theirs.add_argument("--track", action="store_true")
    theirs.add_argument("-optimize", "--optimize-hyperparameters", action="store_true")
    args, _ = theirs.parse_known_args(flags)
    if args.seed < 0:
        raise UsageError(f"--seed {args.seed} is a random seed, another in each run: give one of at least 0.")
    for name in ("track", "optimize_hyperparameters"):
        if getattr(args, name):
            raise UsageError(f"--check-determinism checks one run alone: leave --{name.replace('_', '-')} out.")

    from sb3_stable_ppo.zoo.determinism import check_command

    found = check_command(flags, say=lambda told: print(f"{PROGRAM}: {told}", file=sys.stderr, flush=True))
    print(found)
    return int(not found.is_deterministic)
