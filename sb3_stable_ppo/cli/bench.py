"""
``sb3-stable-ppo bench``: what this package gains in speed on this machine.
"""

from __future__ import annotations

import argparse
import json
import sys

from sb3_stable_ppo.cli.arguments import add_gym_packages, non_negative_int, parser_of, positive_int
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.common.packages import PROGRAM, import_packages

DESCRIPTION = """\
Measure training speed on this machine: stock SB3, then what this package has, one option after the other. Atari games,
other images, vectors and Dicts have options of their own; --list shows them.
Each variant trains in a process of its own, half a minute or so on two cores."""


NUMBERS = {
    "n_steps": "128 for images, 2048 for all else",
    "batch_size": "256 for images, 64 for all else",
    "n_epochs": "4 for images, 10 for all else",
}


def parser() -> argparse.ArgumentParser:
    """The flags of ``bench``."""
    found = parser_of("bench", DESCRIPTION, "--env CartPole-v1 --n-envs 8 --n-steps 256 --batch-size 256 --rounds 3")
    found.add_argument(
        "--env", default="PongNoFrameskip-v4", metavar="ID", help="id of a Gymnasium env (default: %(default)s)"
    )
    add_gym_packages(found)
    found.add_argument(
        "--n-envs", type=positive_int, metavar="N", help="envs at once (default: 8 for images, 1 for all else)"
    )
    found.add_argument(
        "--steps",
        type=positive_int,
        metavar="STEPS",
        help="environment steps that are timed, after two rollouts to warm up (default: 4096 of images, 8192 of all "
        "else)",
    )
    for name, default in NUMBERS.items():
        flag = f"--{name.replace('_', '-')}"
        found.add_argument(flag, type=positive_int, metavar="N", help=f"of PPO (default: {default})")
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
        help="measure only these, and the first to compare with; names or numbers of --list (default: every one)",
    )
    found.add_argument("--list", action="store_true", help="show the variants for --env: number, name, description")
    found.add_argument("--json", action="store_true", help="print a line of JSON for each measurement, and no table")
    return found


def counted(number: int, noun: str) -> str:
    """
    >>> counted(1, "env"), counted(8, "env")
    ('1 env', '8 envs')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def run(argv: list[str]) -> int:
    """measure training speed here: stock SB3, then what this package has, one option after the other"""
    args = parser().parse_args(argv)
    import_packages(args.gym_packages)
    import torch as th  # these imports take seconds, so they come after --help and mistakes in the call

    from sb3_stable_ppo.bench.measuring import measure, table, turns
    from sb3_stable_ppo.bench.variants import ATARI, IMAGES, kind_of
    from sb3_stable_ppo.envs.atari_ids import atari_spec, frame_skip_of
    from sb3_stable_ppo.fast.config import FastPathConfig

    kind = kind_of(args.env)
    if args.list:
        for number, (short, variant) in enumerate(kind.variants.items(), start=1):
            print(f"{number:2} {short:14} {variant.name}")
        return 0
    try:
        wanted = {kind.find(word) for word in args.variants or kind.variants}
        if kind is ATARI:
            frame_skip_of(atari_spec(args.env))
    except ValueError as error:
        raise UsageError(f"bench: {error}") from error
    chosen = {variant.name: short for short, variant in kind.variants.items() if short in {kind.base, *wanted}}
    numbers = {name: getattr(args, name) for name in NUMBERS if getattr(args, name) is not None}
    env = {"env_id": args.env, "n_envs": args.n_envs or kind.n_envs, "steps": args.steps or kind.steps}
    if numbers:
        env["numbers"] = numbers
    if args.gym_packages:
        env["gym_packages"] = args.gym_packages
    device = th.device("cuda" if th.cuda.is_available() else "cpu")
    told = f"{args.env}, {counted(env['n_envs'], 'env')}, {counted(th.get_num_threads(), 'thread')}"
    told += f", torch {th.__version__}, {device}"
    if kind in (ATARI, IMAGES):
        resolved = FastPathConfig("channels_last", "auto", "auto").resolve(device)
        compiled = "compiled where that is faster" if resolved.compiled else "not compiled"
        told += f"; auto is {'bf16' if resolved.bf16 else 'fp32'}, {compiled} here"
    print(f"{told}. {counted(len(chosen), 'variant')}, half a minute each or so on two cores.", file=sys.stderr)
    cells = [{"variant": name, **env, "seed": args.seed + number} for number, name in turns([*chosen], args.rounds)]
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in chosen}
    status = 0
    try:
        for cell, figures in measure(cells):
            name = str(cell["variant"])
            rows[name].append(figures)
            print(f"{name}: {figures['steps_per_s']:.0f} steps/s", file=sys.stderr)
            if args.json:
                print(json.dumps({"name": chosen[name], **cell, **figures}), flush=True)
    except RuntimeError as error:
        print(f"{PROGRAM}: bench: {error}", file=sys.stderr)
        status = 1
    measured = [(name, figures) for name in chosen for figures in rows[name]]
    if measured and not args.json:
        print(table(measured, kind.variants[kind.base].name))
    return status
