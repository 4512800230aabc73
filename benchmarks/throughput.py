"""
Training steps per second on Pong, rl_zoo3's settings: stock SB3, our fast path one option after the other, and sbx-rl.

    python benchmarks/throughput.py --rounds 3     # about 20 minutes on two cores

The variants are those of ``sb3-stable-ppo bench``, and they are trained by its code; sbx-rl (``pip install sbx-rl``)
and further variants of ours are added here. Each finished cell is a line in results/throughput.jsonl.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from importlib.metadata import version
from typing import Any

from record import finished, is_done, record
from sb3_stable_ppo import bench
from sb3_stable_ppo.algorithms import StablePPO

NAME = "throughput"
SBX = "sbx-rl (JAX), its CnnPolicy, ALE env"
MORE = {
    "compile: auto, fp32": bench.VARIANTS["+ compile: auto"]._replace(
        policy_kwargs={**bench.VARIANTS["+ compile: auto"].policy_kwargs, "precision": "fp32"}
    ),
    "all of it, StablePPO, StablePongPolicy": bench.VARIANTS["all of it, StablePPO"]._replace(
        policy="StablePongPolicy"
    ),
    "StablePPO, StablePongPolicy, not compiled": bench.VARIANTS["+ precision: auto"]._replace(
        algorithm=StablePPO, policy="StablePongPolicy"
    ),
    "StablePPO, StablePongPolicy with norm: layer, not compiled": bench.VARIANTS["+ precision: auto"]._replace(
        algorithm=StablePPO,
        policy="StablePongPolicy",
        policy_kwargs={**bench.VARIANTS["+ precision: auto"].policy_kwargs, "norm": "layer"},
    ),
}
bench.VARIANTS.update(MORE)


def add_sbx() -> None:
    """sbx-rl's PPO takes SB3's arguments."""
    from sbx import PPO

    bench.VARIANTS[SBX] = bench.VARIANTS["stock SB3, ALE env"]._replace(algorithm=PPO)


def cell_of(variant: str, seed: int) -> dict[str, Any]:
    """What is measured."""
    return {"variant": variant, "env_id": "PongNoFrameskip-v4", "n_envs": 8, "steps": 8192, "seed": seed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    variants = [*bench.VARIANTS, SBX]
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--variants", nargs="+", default=variants, choices=variants, metavar="VARIANT")
    parser.add_argument("--memory", action="store_true", help="memory alone, once each, whatever else runs meanwhile")
    parser.add_argument("--cell", help="run one cell, given as JSON, and print its figures")
    args = parser.parse_args()
    if args.cell:
        cell = json.loads(args.cell)
        if cell["variant"] == SBX:
            add_sbx()
        print(json.dumps(bench.train(**cell)))
        return
    for seed in range(1 if args.memory else args.rounds):
        for variant in args.variants if seed % 2 == 0 else reversed(args.variants):
            cell = cell_of(variant, seed)
            key = {**cell, "for": "memory"} if args.memory else cell
            if not is_done(NAME, key):
                command = [sys.executable, __file__, "--cell", json.dumps(cell)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                more = {name: version(name) for name in ("sbx-rl", "jax", "flax")} if variant == SBX else {}
                record(NAME, key, {**json.loads(done.stdout.splitlines()[-1]), **more})
    rows = [row for row in finished(NAME) if "env_id" in row["cell"]]  # as measured since the bench command exists
    # the memory of rows without this mark was measured with children added that had ended long before
    memory = {row["cell"]["variant"]: row["peak_mib"] for row in rows if row["cell"].get("for") == "memory"}
    timed = [(row["cell"]["variant"], row) for row in rows if "for" not in row["cell"]]
    print(bench.table((name, {**row, "peak_mib": memory[name]}) for name, row in timed if name in args.variants))


if __name__ == "__main__":
    main()
