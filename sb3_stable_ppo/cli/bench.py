"""
``sb3-stable-ppo bench``: what the fast path gains on this machine.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys

from sb3_stable_ppo.cli.arguments import non_negative_int, parser_of, positive_int
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.common.packages import PROGRAM

DESCRIPTION = """\
Measure training speed on this machine: stock SB3, then the fast path one option after the other.
Each variant trains in a process of its own, half a minute or so on two cores."""


def parser() -> argparse.ArgumentParser:
    """The flags of ``bench``."""
    found = parser_of("bench", DESCRIPTION, "--steps 4096 --variants ale bf16 all")
    found.add_argument("--env", default="PongNoFrameskip-v4", help="id of an Atari game (default: %(default)s)")
    found.add_argument(
        "--n-envs", type=positive_int, default=8, metavar="N", help="games at once (default: %(default)s)"
    )
    found.add_argument(
        "--steps",
        type=positive_int,
        default=4096,
        metavar="STEPS",
        help="environment steps that are timed, after two rollouts to warm up (default: %(default)s)",
    )
    found.add_argument(
        "--rounds", type=positive_int, default=1, metavar="N", help="measurements of each (default: %(default)s)"
    )
    found.add_argument(
        "--seed",
        type=non_negative_int,
        default=0,
        metavar="SEED",
        help="seed of the first round; each later round has the next (default: %(default)s)",
    )
    found.add_argument(
        "--variants",
        nargs="+",
        metavar="NAME",
        help="measure only these, and dummy to compare with; names or numbers of --list (default: every one)",
    )
    found.add_argument("--list", action="store_true", help="show number, name and description of each variant")
    found.add_argument("--json", action="store_true", help="print a line of JSON for each measurement, and no table")
    return found


def run(argv: list[str]) -> int:
    """measure training speed here: stock SB3, then the fast path one option after the other"""
    args = parser().parse_args(argv)
    if importlib.util.find_spec("ale_py") is None:
        raise UsageError("bench needs the Atari emulator: pip install 'sb3-stable-ppo[atari]'.")
    import torch as th  # these imports take seconds, so they come after --help and mistakes in the call

    from sb3_stable_ppo.bench import BASE, SHORT_NAMES, find_variant, measure, table, turns
    from sb3_stable_ppo.envs.atari_ids import atari_spec, frame_skip_of
    from sb3_stable_ppo.fast.config import FastPathConfig

    if args.list:
        for number, (short, description) in enumerate(SHORT_NAMES.items(), start=1):
            print(f"{number:2} {short:14} {description}")
        return 0
    try:
        wanted = {find_variant(word) for word in args.variants or SHORT_NAMES}
        frame_skip_of(atari_spec(args.env))
    except ValueError as error:
        raise UsageError(f"bench: {error}") from error
    short_names = {name: short for short, name in SHORT_NAMES.items() if name in {BASE, *wanted}}
    chosen = list(short_names)
    device = th.device("cuda" if th.cuda.is_available() else "cpu")
    resolved = FastPathConfig("channels_last", "auto", "auto").resolve(device)
    print(
        f"{args.env}, {args.n_envs} envs, {th.get_num_threads()} threads, torch {th.__version__}, {device}; auto is "
        f"{'bf16' if resolved.bf16 else 'fp32'}, {'compiled' if resolved.compiled else 'eager'} here. "
        f"{len(chosen)} variants, half a minute each or so on two cores.",
        file=sys.stderr,
    )
    cells = [
        {"variant": name, "env_id": args.env, "n_envs": args.n_envs, "steps": args.steps, "seed": args.seed + number}
        for number, name in turns(chosen, args.rounds)
    ]
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in chosen}
    try:
        for cell, figures in measure(cells):
            rows[str(cell["variant"])].append(figures)
            print(f"{cell['variant']}: {figures['steps_per_s']:.0f} steps/s", file=sys.stderr)
            if args.json:
                print(json.dumps({"name": short_names[str(cell["variant"])], **cell, **figures}), flush=True)
    except RuntimeError as error:
        print(f"{PROGRAM}: bench: {error}", file=sys.stderr)
        return 1
    if not args.json:
        print(table((name, figures) for name in chosen for figures in rows[name]))
    return 0
