"""
A table to choose a norm by: batch, layer or none, with and without guards, on Pong, healthy and under stress.

    python benchmarks/norms.py           # all cells that are not on record, about 50 minutes on one core
    python benchmarks/norms.py --table   # only print what is on record

``StablePongPolicy`` in all cells, on the fast path; the figures are means over the last four updates. Each finished run
is a line in results/norms.jsonl.
"""

from __future__ import annotations

import argparse
import time
import warnings
from statistics import mean
from typing import Any

from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from command import benchmark_parser, markdown, parsed
from gauntlet import ZOO_PONG
from pong import FAST_PATH, SETTINGS, SMOKE
from record import finished, run_missing
from sb3_stable_ppo import CollapseError, StablePongPolicy, StablePPO
from sb3_stable_ppo.envs.atari import make_atari_vec_env
from sb3_stable_ppo.health.figures import inspect_policy, layer_figures
from sb3_stable_ppo.probes import ActivationProbe
from sb3_stable_ppo.probes.rows import strided_observations
from vitals import VitalSigns, guard_counts

NAME, STEPS, LAST = "norms", 16_384, 4
NORMS, GUARDS = ("batch", "layer", "none"), (True, False)
SETTINGS_BY_NAME = {
    "healthy": ZOO_PONG,
    "lr 1e-3, 10 epochs": {**SETTINGS, "learning_rate": 1e-3, "n_epochs": 10, "clip_range": 0.2},
}
LOGGED = ("entropy_loss", "approx_kl", "clip_fraction", "explained_variance")


class Updates(BaseCallback):
    """What ``train()`` logged for each update, and the convolutions' share of units that are never positive."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, float]] = []
        self._rows: Any = None

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        model: Any = self.model
        self._rows = model.policy.obs_to_tensor(strided_observations(model.rollout_buffer, 512))[0]

    def _on_rollout_start(self) -> None:
        self._look()

    def _on_training_end(self) -> None:
        self._look()

    def _look(self) -> None:
        rows, self._rows = self._rows, None
        if rows is not None:
            probe = ActivationProbe(self.model.policy)
            layers = layer_figures(probe, inspect_policy(self.model.policy, probe, rows).activations)
            logged = {name: float(self.logger.name_to_value[f"train/{name}"]) for name in LOGGED}
            never = {name: layer["fault_fraction"] for name, layer in layers.items() if layer["fault"] == "linear"}
            self.seen.append({**logged, **never})


def run(norm: str, guards: bool, settings: str, seed: int, steps: int = STEPS, n_envs: int = 8) -> dict[str, Any]:
    """Train one cell."""
    warnings.simplefilter("ignore")
    signs, updates, start = VitalSigns(), Updates(), time.perf_counter()
    options = {**FAST_PATH, "policy_kwargs": {**FAST_PATH["policy_kwargs"], "norm": norm}}
    algorithm: Any = StablePPO if guards else PPO
    env = make_atari_vec_env("PongNoFrameskip-v4", n_envs, seed)
    model = algorithm(StablePongPolicy, env, seed=seed, **SETTINGS_BY_NAME[settings], **options)
    stopped = None
    try:
        model.learn(steps, callback=[updates, signs])  # signs flatten the buffer
    except (CollapseError, ValueError) as error:
        stopped = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    env.close()
    last = updates.seen[-LAST:]
    return {
        **{name: round(mean(seen[name] for seen in last), 5) for name in (last[0] if last else ())},
        "srank": mean(sign.srank for sign in signs.signs[-LAST:]) if signs.signs else None,
        "return": signs.signs[-1].ret if signs.signs else None,
        "undone_updates": guard_counts(model)["undone_updates"],
        "stopped": stopped,
        "steps": model.num_timesteps,
        "minutes": round((time.perf_counter() - start) / 60, 2),
    }


def table() -> str:
    """Means over seeds, the range behind them."""
    names = ["entropy", "approx_kl", "clip_fraction", "explained variance", "conv1 / 2 / 3 never positive", "srank"]
    heads = ["settings", "norm", "guards", *names]
    lines = []
    for settings in SETTINGS_BY_NAME:
        for norm in NORMS:
            for guards in GUARDS:
                wanted = {"norm": norm, "guards": guards, "settings": settings}
                rows = [row for row in finished(NAME) if {**row["cell"], **wanted} == row["cell"]]
                whole = [row for row in rows if "entropy_loss" in row]
                if not whole:
                    continue

                def spread(name: str, sign: int = 1, rows: list[Any] = whole) -> str:
                    values = sorted(sign * row[name] for row in rows if row[name] is not None)
                    if not values:
                        return "-"
                    return f"{mean(values):.3g} ({values[0]:.3g} to {values[-1]:.3g})"

                convs = " / ".join(f"{mean(row[f'conv{n}'] for row in whole):.0%}" for n in (1, 2, 3))
                undone = ", ".join("-" if row["undone_updates"] is None else str(row["undone_updates"]) for row in rows)
                cells = [settings, norm, "yes" if guards else "no", spread("entropy_loss", -1), spread("approx_kl")]
                cells += [spread("clip_fraction"), spread("explained_variance"), convs, spread("srank")]
                lines.append([*cells, spread("return"), undone])
    return markdown([*heads, "return", "undone"], lines)


def options() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS_BY_NAME), choices=list(SETTINGS_BY_NAME))
    return parser


def main() -> None:
    args = parsed(options())
    cells = [
        {"norm": norm, "guards": guards, "settings": settings, "seed": seed}
        for seed in args.seeds
        for settings in args.settings
        for norm in NORMS
        for guards in GUARDS
    ]
    if args.smoke:
        cells = [{"norm": "layer", "guards": True, "settings": "healthy", "seed": 0, **SMOKE}]
    run_missing(NAME, cells if not args.table else (), lambda cell: run(**cell))
    print(table())


if __name__ == "__main__":
    main()
