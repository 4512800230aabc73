"""
Return and health against the learning rate: stock PPO against StablePPO, from 1e-5 to 1e-1.

    python benchmarks/lr_sweep.py --workers 2     # about 15 minutes on two cores; goes on where it stopped
    python benchmarks/lr_sweep.py --plot docs/img/lr_sweep.png

CartPole and Pendulum, 3 seeds. ``stock`` is PPO with MlpPolicy, ``ours`` StablePPO with StableMlpPolicy, all else
equal: SB3's defaults on CartPole, rl_zoo3's settings on Pendulum. A run that raises is on record with what it raised.
Each finished run is a line in results/lr_sweep.jsonl.
"""

from __future__ import annotations

import argparse
import multiprocessing
import warnings
from statistics import mean
from typing import Any

import numpy as np
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.utils import obs_as_tensor

from command import benchmark_parser, markdown, parsed, with_range
from record import finished, is_done, record
from sb3_stable_ppo import StablePPO
from sb3_stable_ppo.health.figures import layer_figures
from sb3_stable_ppo.probes import ActivationProbe
from vitals import guard_counts

NAME = "lr_sweep"
RATES = (1e-5, 1e-4, 3e-4, 1e-3, 1e-2, 3e-2, 1e-1)
PENDULUM = {"n_steps": 1024, "gamma": 0.9, "use_sde": True, "sde_sample_freq": 4}
ENVS: dict[str, tuple[str, int, int, dict[str, Any]]] = {
    "cartpole": ("CartPole-v1", 1, 20_000, {}),
    "pendulum": ("Pendulum-v1", 4, 40_000, PENDULUM),
}


def run(cell: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train one cell; figures at its end."""
    warnings.simplefilter("ignore")
    th.set_num_threads(1)
    env_id, n_envs, steps, settings = ENVS[cell["env"]]
    steps = cell.get("steps", steps)
    env = make_vec_env(env_id, n_envs, seed=cell["seed"])
    algorithm, policy = (StablePPO, "StableMlpPolicy") if cell["algo"] == "ours" else (PPO, "MlpPolicy")
    model = algorithm(policy, env, learning_rate=cell["rate"], seed=cell["seed"], **settings)
    error = None
    try:
        model.learn(steps)
    except ValueError as raised:
        error = f"{type(raised).__name__}: {str(raised).splitlines()[0][:120]}"
    finite = all(bool(th.isfinite(p).all()) for p in model.policy.parameters())
    returns = [episode["r"] for episode in model.ep_info_buffer or []][-20:]
    figures: dict[str, Any] = {
        "return": mean(returns) if returns else None,
        "error": error,
        "finite": finite,
        **guard_counts(model),
    }
    if finite and error is None:
        figures |= health(model)
    return cell, figures


def health(model: PPO) -> dict[str, float]:
    """Entropy, how much the policy depends on the state, and the worst layer, on the last rollout."""
    buffer = model.rollout_buffer
    flat = buffer.observations.reshape(-1, *buffer.obs_shape)[:: max(1, buffer.buffer_size * buffer.n_envs // 512)]
    observations = obs_as_tensor(np.ascontiguousarray(flat), model.device)
    probe = ActivationProbe(model.policy)
    layers = layer_figures(probe, probe(observations))
    with th.no_grad():
        distribution: Any = model.policy.get_distribution(observations).distribution
        action = getattr(distribution, "probs", None)
        action = distribution.mean if action is None else action
    return {
        "dormant_fraction": max(figures["dormant_fraction"] for figures in layers.values()),
        "action_std_over_states": float(action.std(dim=0).mean()),
    }


def sweep(workers: int) -> None:
    """Run what is not on record."""
    cells = [
        {"env": env, "algo": algo, "rate": rate, "seed": seed}
        for env in ENVS
        for seed in range(3)
        for rate in RATES
        for algo in ("stock", "ours")
    ]
    todo = [cell for cell in cells if not is_done(NAME, cell)]
    print(f"{len(todo)} of {len(cells)} runs to do")
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for cell, figures in pool.imap_unordered(run, todo):
            record(NAME, cell, figures)
            print(cell, figures, flush=True)


def values(env: str, algo: str, rate: float, figure: str) -> list[float]:
    """A figure of all seeds of a cell, where it exists."""
    rows = [
        row
        for row in finished(NAME)
        if (row["cell"]["env"], row["cell"]["algo"], row["cell"]["rate"]) == (env, algo, rate)
    ]
    return [row[figure] for row in rows if row.get(figure) is not None]


def table() -> str:
    """The table of docs/guards.md: mean return over the seeds (lowest to highest), updates undone in each."""
    lines = []
    for rate in RATES:
        line = [f"{rate:g}"]
        for env in ENVS:
            for algo in ("stock", "ours"):
                found = values(env, algo, rate, "return")
                line.append(with_range(found, mean(found), ".0f") if found else "-")
            line.append(", ".join(str(n) for n in values(env, "ours", rate, "undone_updates")) or "-")
        lines.append(line)
    heads = [head for env in ENVS for head in (f"{env}, stock", f"{env}, ours", "undone")]
    return markdown(["learning rate", *heads], lines)


def plot(target: str) -> None:
    """Return and dependence on the state against the rate, each seed a dot."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figures = {"return": "mean return, last 20 episodes", "action_std_over_states": "spread of the action over states"}
    figure, axes = plt.subplots(2, len(ENVS), figsize=(10, 6.5), sharex=True, layout="constrained")
    for column, env in enumerate(ENVS):
        for row, (name, label) in enumerate(figures.items()):
            axis = axes[row, column]
            for algo, colour in (("stock", "tab:red"), ("ours", "tab:blue")):
                points = [(rate, value) for rate in RATES for value in values(env, algo, rate, name)]
                axis.plot(*zip(*points, strict=True), "o", color=colour, alpha=0.4, markersize=4)
                means = [(rate, mean(found)) for rate in RATES if (found := values(env, algo, rate, name))]
                axis.plot(*zip(*means, strict=True), "-", color=colour, label=algo)
            axis.set_xscale("log")
            axis.set_title(f"{env}: {label}", fontsize=10)
            axis.grid(alpha=0.2)
    axes[0, 0].legend()
    for axis in axes[-1]:
        axis.set_xlabel("learning rate")
    figure.savefig(target, dpi=110)


def options() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--plot", metavar="PNG", help="only draw what is on record, and print its table")
    return parser


def main() -> None:
    args = parsed(options())
    if args.plot:
        plot(args.plot)
    elif args.smoke and not args.table:
        record(NAME, *run({"env": "cartpole", "algo": "ours", "rate": 3e-4, "seed": 0, "steps": 512}))
    elif not args.table:
        sweep(args.workers)
    print(table())


if __name__ == "__main__":
    main()
