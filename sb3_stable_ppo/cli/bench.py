"""
``sb3-stable-ppo bench``: what the fast path gains on this machine.
"""

from __future__ import annotations

import importlib.util
import json
import sys

from sb3_stable_ppo.cli.arguments import non_negative_int, parser_of, positive_int
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.common.packages import PROGRAM


def run(argv: list[str]) -> int:
    """measure training speed here: stock SB3, then the fast path one option after the other"""
    parser = parser_of("bench", run.__doc__)
    parser.add_argument("--env", default="PongNoFrameskip-v4", help="an Atari game (%(default)s)")
    parser.add_argument("--n-envs", type=positive_int, default=8, help="games (%(default)s)")
    parser.add_argument("--steps", type=positive_int, default=4096, help="steps that are timed (%(default)s)")
    parser.add_argument("--rounds", type=positive_int, default=1, help="how often each is measured (%(default)s)")
    parser.add_argument("--seed", type=non_negative_int, default=0, help="of the first round (%(default)s)")
    parser.add_argument("--variants", type=positive_int, nargs="+", metavar="N", help="only these, and 1, the base")
    parser.add_argument("--list", action="store_true", help="the variants and their numbers, and no more")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each measurement in place of the table")
    args = parser.parse_args(argv)
    if importlib.util.find_spec("ale_py") is None:
        raise UsageError("bench needs the Atari emulator: pip install 'sb3-stable-ppo[atari]'.")
    import torch as th  # these imports take seconds, so they come after --help and mistakes in the call

    from sb3_stable_ppo.bench import BASE, VARIANTS, measure, table, turns
    from sb3_stable_ppo.envs.atari import atari_spec, frame_skip_of
    from sb3_stable_ppo.fast.config import FastPathConfig

    names = list(VARIANTS)
    if args.list:
        print("\n".join(f"{number:2} {name}" for number, name in enumerate(names, start=1)))
        return 0
    if args.variants and max(args.variants) > len(names):
        raise UsageError(f"--variants: there are {len(names)}; --list shows them.")
    try:
        frame_skip_of(atari_spec(args.env))
    except ValueError as error:
        raise UsageError(f"bench: {error}") from error
    chosen = [name for number, name in enumerate(names, start=1) if number in (args.variants or [number])]
    chosen = list(dict.fromkeys([BASE, *chosen]))
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
                print(json.dumps({**cell, **figures}), flush=True)
    except RuntimeError as error:
        print(f"{PROGRAM}: bench: {error}", file=sys.stderr)
        return 1
    if not args.json:
        print(table((name, figures) for name in chosen for figures in rows[name]))
    return 0
