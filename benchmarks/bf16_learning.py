"""
Whether bfloat16 learns as fp32 does: learning curves with seeds, all else equal.

    python benchmarks/bf16_learning.py --seeds 0 1 2      # about 20 minutes on two cores with AMX
    python benchmarks/bf16_learning.py --plot docs/img/bf16_learning.png

Breakout, because it learns early: rl_zoo3's settings, ``StablePPO`` with ``StableCnnPolicy`` and BatchNorm,
``channels_last`` in both, nothing compiled. Each finished run is a line in results/bf16_learning.jsonl.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from command import benchmark_parser, markdown, parsed
from episodes import Episodes
from pong import TORCHS_WAY
from record import finished, run_missing
from sb3_stable_ppo import StablePPO, TorchRolloutBuffer
from sb3_stable_ppo.envs.atari import make_atari_vec_env

NAME = "bf16_learning"
GAME = "BreakoutNoFrameskip-v4"
STEPS, BIN, LAST_BINS = 300_000, 20_000, 3
SMOKE = {"steps": 256, "n_envs": 2}
PRECISIONS = ("fp32", "bf16")
SETTINGS: dict[str, Any] = {
    "n_steps": 128,
    "n_epochs": 4,
    "batch_size": 256,
    "learning_rate": 2.5e-4,
    "clip_range": 0.1,
    "vf_coef": 0.5,
    "ent_coef": 0.01,
}


def run(precision: str, seed: int, steps: int = STEPS, n_envs: int = 8) -> dict[str, Any]:
    """Train; the mean score of the games that ended in each ``BIN`` of steps, and what the last updates were like."""
    env = make_atari_vec_env(GAME, n_envs, seed)
    model = StablePPO(
        "StableCnnPolicy",
        env,
        seed=seed,
        rollout_buffer_class=TorchRolloutBuffer,
        rollout_buffer_kwargs={"memory_format": "channels_last"},
        policy_kwargs={
            "norm": "batch",
            **TORCHS_WAY,
            "memory_format": "channels_last",
            "precision": precision,
            "optimizer_kwargs": {"fused": True},
        },
        **SETTINGS,
    )
    games = Episodes()
    model.learn(steps, callback=games)
    env.close()
    ends, scores = np.array(games.ended).reshape(-1, 2).T
    curve = [scores[(ends > end - BIN) & (ends <= end)] for end in range(BIN, steps + 1, BIN)]
    names = ("train/entropy_loss", "train/approx_kl", "train/explained_variance", "guards/undone_updates")
    return {
        "scores": [round(float(part.mean()), 3) if len(part) else None for part in curve],
        "games": [len(part) for part in curve],
        **{name: float(model.logger.name_to_value[name]) for name in names if name in model.logger.name_to_value},
    }


def plot(path: Path) -> None:
    """A line for each run."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.5))
    for precision, colour in zip(PRECISIONS, ("tab:blue", "tab:orange"), strict=True):
        for row in finished(NAME):
            if row["cell"]["precision"] == precision:
                ends = BIN * (1 + np.arange(len(row["scores"])))
                axes.plot(
                    ends, row["scores"], color=colour, alpha=0.8, label=f"{precision}, seed {row['cell']['seed']}"
                )
    axes.set(xlabel="steps", ylabel=f"mean score, {BIN:,} steps each", title="Breakout")
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def table() -> str:
    """The table of docs/fast_path.md: the mean score of the games that ended in the last 60,000 steps."""
    rows = {(row["cell"]["precision"], row["cell"]["seed"]): row for row in finished(NAME)}
    seeds = sorted({seed for _, seed in rows})

    def score(row: dict[str, Any]) -> str:
        last = list(zip(row["scores"], row["games"], strict=True))[-LAST_BINS:]
        games = sum(count for _, count in last)
        return f"{sum(mean * count for mean, count in last if count) / games:.1f}" if games else "-"

    cells = [
        [precision, *(score(rows[precision, seed]) if (precision, seed) in rows else "-" for seed in seeds)]
        for precision in PRECISIONS
    ]
    return markdown(["", *(f"seed {seed}" for seed in seeds)], cells)


def options() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--plot", type=Path, metavar="PNG", help="only draw what is on record")
    return parser


def main() -> None:
    args = parsed(options())
    if args.plot:
        plot(args.plot)
        return
    if args.smoke:
        run_missing(NAME, [{"precision": "bf16", "seed": 0, **SMOKE}], lambda cell: run(**cell))
    elif not args.table:
        cells = [
            {"precision": precision, "seed": seed, "steps": STEPS} for seed in args.seeds for precision in PRECISIONS
        ]
        run_missing(NAME, cells, lambda cell: run(**cell))
    print(table())


if __name__ == "__main__":
    main()
