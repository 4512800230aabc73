"""
Long runs of Pong through the command line, as a user would start them, and what their models score in the stock env.

    python benchmarks/long_pong.py --runs layer batch fast stock --seeds 0   # 25 to 75 minutes each
    python benchmarks/long_pong.py --table

Each run is the first ``--steps`` of what its settings would train for (learning rate and clip range are annealed over
ten million). Each finished run is a line in results/long_pong.jsonl; its folder is left in ``--folder``.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy

from command import benchmark_parser, markdown, parsed
from pong import make_pong
from record import finished, folder as results_folder, run_missing
from sb3_stable_ppo import StablePPO
from sb3_stable_ppo.cli import main as command_line
from sb3_stable_ppo.runs.folder import RunReader
from vitals import guard_counts

NAME, GAME, BIN, EPISODES = "long_pong", "PongNoFrameskip-v4", 50_000, 20
CONVS = ("conv1", "conv2", "conv3")
BATCH = "{norm: batch, norm_statistics: batch, norm_input: none}"
LAYER = {
    "policy_kwargs": "{norm: layer, norm_input: none}",
    "batch_size": "256",
    "learning_rate": "{schedule: step, initial: 1e-4, step_size: 444, gamma: 0.9}",
    "clip_range": "lin_0.1",
}
"""The entry for Pong as it was when the lines on record were measured; all other Atari games have it still."""
RUNS: dict[str, tuple[str, dict[str, str]]] = {
    "layer": ("stable_ppo", LAYER),
    "batch": ("stable_ppo", {**LAYER, "policy_kwargs": BATCH}),
    "fast": ("stable_ppo", {**LAYER, "n_envs": "16", "n_epochs": "3", "learning_rate": "1e-3", "clip_range": "0.2"}),
    "stock": ("ppo", {"policy": "CnnPolicy", "policy_kwargs": "{}", "learning_rate": "lin_2.5e-4"}),
}
"""Algorithm, and what differs from its file in ``zoo_configs/``. ``batch`` is stable_ppo_batchnorm.yml."""


class StopAt(BaseCallback):
    """Ends a run that is set up to be longer."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def _on_step(self) -> bool:
        return self.num_timesteps < self.steps


def curve(progress: Path) -> list[list[float]]:
    """(step, mean return of the last 100 episodes), thinned."""
    rows = [row for row in csv.DictReader(progress.open()) if row.get("rollout/ep_rew_mean")]
    points = [[int(row["time/total_timesteps"]), float(row["rollout/ep_rew_mean"])] for row in rows]
    bins = {int(step // BIN): [step, round(value, 2)] for step, value in points}
    return [bins[key] for key in sorted(bins)]


def train_and_play(name: str, seed: int, steps: int, folder: Path, episodes: int = EPISODES) -> dict[str, Any]:
    """Train one, then play."""
    algo, changes = RUNS[name]
    callbacks = "['sb3_stable_ppo.HealthCallback',{'sb3_stable_ppo.ActivationSnapshotCallback':{'every':1000}},"
    callbacks += f"{{'long_pong.StopAt':{{'steps':{steps}}}}}]"
    params = [f"{key}:{_quoted(value)}" for key, value in changes.items()]
    args = ["train", "--algo", algo, "--env", GAME, "-n", "10000000", "--seed", str(seed), "-f", str(folder / name)]
    args += ["--eval-freq", "-1", "--no-progress", "--verbose", "0", "-params", *params, f"callback:{callbacks}"]
    start = time.perf_counter()
    status = command_line(args)
    minutes = (time.perf_counter() - start) / 60
    home = max((folder / name / algo).glob(f"{GAME}_*"), key=lambda path: path.stat().st_mtime)
    model = (StablePPO if algo == "stable_ppo" else PPO).load(home / f"{GAME}.zip")
    if model.num_timesteps < steps:
        raise SystemExit(f"{home} was interrupted at step {model.num_timesteps:,}: not recorded.")
    env = make_pong(1000 + seed, min(8, episodes))
    scores, _ = evaluate_policy(model, env, episodes, deterministic=False, return_episode_rewards=True)
    env.close()
    lines = list(RunReader(home).health())
    thorough = [line for line in lines if "srank" in line.get("features", {})]
    return {
        "status": status,
        "scores": scores,
        "curve": curve(home / "progress.csv"),
        "minutes": round(minutes, 1),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        **guard_counts(model),
        "layers": {key: [v["fault"], v["fault_fraction"]] for key, v in lines[-1]["layers"].items()},
        "policy": lines[-1]["policy"],
        "sranks": [[line["step"], line["features"]["srank"]] for line in thorough][:: max(len(thorough) // 20, 1)],
        "events": [event for line in lines for event in line["events"]],
    }


def _quoted(value: str) -> str:
    """As rl_zoo3's -params evaluates it."""
    if value.startswith("{"):
        import yaml

        return repr(yaml.safe_load(value)).replace(" ", "")
    try:
        float(value)
    except ValueError:
        return repr(value)
    return value


def table() -> str:
    """The table of docs/pong.md."""
    lines = []
    for row in sorted(finished(NAME), key=lambda row: list(RUNS).index(row["cell"]["run"])):
        points, scores, undone = row["curve"], row["scores"], row["undone_updates"]
        zero = next((f"{math.ceil(step / BIN) * BIN:,}" for step, value in points if value >= 0), "not yet")
        faults = [row["layers"][name] for name in CONVS]
        never = " / ".join(f"{fraction:.0%}" for _, fraction in faults)
        never += " (dead)" if all(fault == "dead" for fault, _ in faults) else ""
        line = [row["cell"]["run"], f"{points[-1][1]:.1f}" if points else "-", zero]
        line += [f"{np.mean(scores):.1f} ± {np.std(scores):.1f}", "-" if undone is None else undone, never]
        lines.append([*line, f"{row['minutes']:.0f}"])
    heads = ["run", "return of the last 100 games", "at 0 by step", "20 games of the final model", "updates undone"]
    return markdown([*heads, "conv units never positive at the end", "minutes"], lines)


def plot(path: Path) -> None:
    """A curve for each run."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    for number, name in enumerate(RUNS):
        for row in finished(NAME):
            if row["cell"]["run"] == name:
                steps, values = zip(*row["curve"], strict=True)
                axes.plot(steps, values, color=f"C{number}", label=f"{name}, seed {row['cell']['seed']}")
    published = {400_000: -20, 900_000: -10, 1_300_000: 0}  # read by eye off CleanRL's figure of ppo_atari
    axes.plot(list(published), list(published.values()), "o--", color="grey", label="CleanRL's ppo_atari, as published")
    axes.set(xlabel="steps", ylabel="return, last 100 games", title="Pong", ylim=(-21.5, 21))
    axes.legend(fontsize=8)
    plt.savefig(path, dpi=110)


def options() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--runs", nargs="+", default=list(RUNS), choices=list(RUNS), metavar="RUN")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=Path("logs/long_pong"), help="where the runs' folders are left")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="only draw what is on record")
    return parser


def main() -> None:
    args = parsed(options())
    if args.plot:
        plot(args.plot)
        return
    cells = [{"run": name, "seed": seed, "steps": args.steps} for seed in args.seeds for name in args.runs]
    folder, episodes = args.folder, EPISODES
    if args.smoke:  # the first update begins after 1,024 steps
        cells, folder, episodes = [{"run": "layer", "seed": 0, "steps": 1_032}], results_folder() / "runs", 1
    run_missing(
        NAME,
        cells if not args.table else (),
        lambda cell: train_and_play(cell["run"], cell["seed"], cell["steps"], folder, episodes),
    )
    print(table())


if __name__ == "__main__":
    main()
