"""
Training steps per second on Pong, rl_zoo3's settings: stock SB3, our fast path one option after the other, and sbx-rl.

    python benchmarks/throughput.py --rounds 3     # about 20 minutes on two cores
    python benchmarks/throughput.py --rounds 3 --regions   # one compiled region and one a network

The variants are those of ``sb3-stable-ppo bench``, and they are trained by its code; sbx-rl (``pip install sbx-rl``)
and further variants of ours are added here. Each finished cell is a line in results/throughput.jsonl.
"""

from __future__ import annotations

import argparse
import json
from contextlib import nullcontext
from importlib.metadata import version
from typing import Any
from unittest import mock

from command import add_cell_flag, benchmark_parser, in_a_process, parsed
from record import finished, run_missing
from sb3_stable_ppo.algorithms import StablePPO
from sb3_stable_ppo.bench.measuring import table as speed_table
from sb3_stable_ppo.bench.training import train_variant
from sb3_stable_ppo.bench.variants import ATARI
from sb3_stable_ppo.policies.one_region import CompilesOneRegion

NAME = "throughput"
SBX = "sbx-rl (JAX), its CnnPolicy, ALE env"
FULL, UNCOMPILED = (ATARI.variants[name]._replace(algorithm=StablePPO) for name in ("all", "bf16"))
PONG = "StablePPO, StablePongPolicy"
MORE = {
    variant.name: variant
    for variant in (
        FULL._replace(name=f"all of it, {PONG}", policy="StablePongPolicy"),
        UNCOMPILED._replace(name=f"{PONG}, not compiled", policy="StablePongPolicy"),
        UNCOMPILED._replace(
            name=f"{PONG} with norm: layer, not compiled",
            policy="StablePongPolicy",
            policy_kwargs={**UNCOMPILED.policy_kwargs, "norm": "layer"},
        ),
        ATARI.variants["compile"]._replace(
            name="compile: auto, fp32", policy_kwargs={**ATARI.variants["compile"].policy_kwargs, "precision": "fp32"}
        ),
    )
}
"""Further variants of ours, in the form of those of the command."""
COMPILED: dict[str, Any] = {"policy": "StablePongPolicy", "policy_kwargs": {**FULL.policy_kwargs, "compile": True}}
ONE, EACH = f"{PONG}, compile: true", f"{PONG}, compile: true, each network by itself"
REGIONS = {name: FULL._replace(name=name, **COMPILED) for name in (ONE, EACH)}
"""What ``policies/one_region.py`` is worth."""
VARIANTS = {**{variant.name: variant for variant in ATARI.variants.values()}, **MORE, **REGIONS}


def train(cell: dict[str, Any]) -> dict[str, float]:
    """In a process of its own: have the package's code train a cell. sbx-rl's PPO takes SB3's arguments."""
    name = cell.pop("variant")
    if name == SBX:
        from sbx import PPO

        return train_variant(ATARI.variants["ale"]._replace(algorithm=PPO), **cell)
    by_itself = mock.patch.object(CompilesOneRegion, "_find_region") if name == EACH else nullcontext()
    with by_itself:
        return train_variant(VARIANTS[name], **cell)


def measure(key: dict[str, Any]) -> dict[str, Any]:
    """A cell's figures; ``key`` says what they are for as well."""
    cell = {name: value for name, value in key.items() if name != "for"}
    more = {name: version(name) for name in ("sbx-rl", "jax", "flax")} if cell["variant"] == SBX else {}
    return {**in_a_process(__file__, cell), **more}


def table(variants: list[str]) -> str:
    """
    The table of docs/fast_path.md.

    :param variants: those of which there are rows
    """
    rows = [row for row in finished(NAME) if "env_id" in row["cell"]]  # as measured since the bench command exists
    # the memory of rows without this mark was measured with children added that had ended long before
    memory = {row["cell"]["variant"]: row["peak_mib"] for row in rows if row["cell"].get("for") == "memory"}
    timed = [(row["cell"]["variant"], row) for row in rows if "for" not in row["cell"]]
    rows_of_variants = (
        (name, {**row, "peak_mib": memory.get(name, row["peak_mib"])})
        for wanted in variants
        for name, row in timed
        if name == wanted
    )
    return speed_table(rows_of_variants, ATARI.variants[ATARI.base].name)


def options() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    variants = [*VARIANTS, SBX]
    usual = [name for name in variants if name not in REGIONS]
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--variants", nargs="+", default=usual, choices=variants, metavar="VARIANT")
    parser.add_argument(
        "--regions", dest="variants", action="store_const", const=list(REGIONS), help="only what one region is worth"
    )
    parser.add_argument("--memory", action="store_true", help="memory alone, once each, whatever else runs meanwhile")
    add_cell_flag(parser)
    return parser


def main() -> None:
    args = parsed(options())
    if args.cell:
        print(json.dumps(train(args.cell)))
        return
    base = {"env_id": "PongNoFrameskip-v4", "n_envs": 8, "steps": 8192}
    keys = [
        {"variant": variant, **base, "seed": seed, **({"for": "memory"} if args.memory else {})}
        for seed in range(1 if args.memory else args.rounds)
        for variant in (args.variants if seed % 2 == 0 else reversed(args.variants))
    ]
    if args.smoke:
        keys = [{"variant": "stock SB3, ALE env", **base, "n_envs": 2, "steps": 256, "seed": 0}]
    run_missing(NAME, keys if not args.table else (), measure)
    print(table(args.variants))


if __name__ == "__main__":
    main()
