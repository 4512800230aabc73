"""
The gauntlet: PPO under stresses that kill it, stock and ours at equal settings. What counts is in docs/gauntlet.md.

    python benchmarks/gauntlet.py                                   # all cells that are not on record, about 2.5 hours
    python benchmarks/gauntlet.py --stresses pong-lr-5e-3 --again   # one of them anew, beside what is on record
    python benchmarks/gauntlet.py --workers 8 --ray auto            # so many at once, on a Ray cluster; or just here

Each finished run is a line in results/gauntlet.jsonl.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from command import benchmark_parser, markdown, parsed
from pong import FAST_PATH, SETTINGS, make_pong
from record import finished, folder, is_done, record
from sb3_stable_ppo import CollapseError, StableMaskablePPO, StablePPO, StableRecurrentPPO, policies
from sb3_stable_ppo.common.errors import described
from sb3_stable_ppo.common.tensors import is_broken_distribution
from sb3_stable_ppo.envs.atari import make_atari_vec_env
from sb3_stable_ppo.parallel.local import Job, run_here
from sb3_stable_ppo.parallel.ray import run_on_ray
from vitals import VitalSigns, collapsed, guard_counts

NAME = "gauntlet"
VARIANTS = ("stock", "stock, our policy", "StablePPO, our policy")
FLOORS = {"pong": -20.5, "cartpole": 12.0}


class Altered(VecEnvWrapper):
    """An env whose observations and rewards a function changes, given the count of env steps."""

    def __init__(self, venv: VecEnv, alter: Callable[[int, Any, Any], tuple[Any, Any]]) -> None:
        super().__init__(venv)
        self.alter, self.count = alter, 0

    def reset(self) -> Any:
        return self.alter(self.count, self.venv.reset(), np.zeros(self.num_envs))[0]

    def step_wait(self) -> Any:
        observations, rewards, dones, infos = self.venv.step_wait()
        self.count += self.num_envs
        observations, rewards = self.alter(self.count, observations, rewards)
        return observations, rewards, dones, infos


def nan_rewards(count: int, observations: Any, rewards: Any) -> Any:
    """One in 10,000."""
    return observations, np.where(np.arange(count - len(rewards), count) % 10_000 == 5_000, np.nan, rewards)


def nan_observations(count: int, observations: Any, rewards: Any) -> Any:
    """A whole observation in each 1,000 env steps."""
    hit = np.arange(count - len(rewards), count) % 1_000 == 500
    return np.where(hit[:, None], np.nan, observations).astype(np.float32), rewards


def drifting(seed: int, every: int = 160_000) -> Callable[[int, Any, Any], Any]:
    """Another offset from N(0, 2) on all observations for each task, as C-CHAIN has it."""
    offsets = np.random.default_rng(seed).normal(0.0, 2.0, size=(100, 4)).astype(np.float32)
    return lambda count, observations, rewards: (observations + offsets[count // every], rewards)


CARTPOLE: dict[str, Any] = {
    "learning_rate": 1e-3,
    "n_steps": 32,
    "batch_size": 256,
    "n_epochs": 20,
    "gamma": 0.98,
    "gae_lambda": 0.8,
    "clip_range": 0.2,
}
DRIFT: dict[str, Any] = {
    "learning_rate": 1e-3,
    "n_steps": 100,
    "batch_size": 32,
    "n_epochs": 5,
    "clip_range": 0.2,
    "ent_coef": 0.01,
    "max_grad_norm": 1e9,
}
ZOO_PONG = {**SETTINGS, "learning_rate": 2.5e-4}
CONTRIB: dict[str, Any] = {"n_steps": 33, "batch_size": 32, "n_epochs": 4, "learning_rate": 3e-4}


class Stress(NamedTuple):
    """An env, its settings, what is done to it, and how long it lasts."""

    env: str
    steps: int
    settings: dict[str, Any]
    alter: Callable[[int], Callable[[int, Any, Any], Any]] | None = None
    algorithm: str = "ppo"
    n_envs: int = 8
    guards: dict[str, Any] | None = None


STRESSES = {
    "pong-healthy": Stress("pong", 32_768, ZOO_PONG),
    "pong-lr-1e-3": Stress("pong", 16_384, {**SETTINGS, "learning_rate": 1e-3, "n_epochs": 10, "clip_range": 0.2}),
    "pong-lr-5e-3": Stress("pong", 16_384, {**SETTINGS, "learning_rate": 5e-3, "n_epochs": 10, "clip_range": 0.2}),
    "pong-clip-0.3": Stress("pong", 16_384, {**ZOO_PONG, "n_epochs": 20, "clip_range": 0.3}),
    "pong-rewards-1e3": Stress("pong", 16_384, ZOO_PONG, lambda _: lambda _, obs, rewards: (obs, rewards * 1e3)),
    "pong-no-clipping": Stress("pong", 16_384, {**ZOO_PONG, "max_grad_norm": 1e9}),
    "pong-nan-rewards": Stress("pong", 16_384, ZOO_PONG, lambda _: nan_rewards),
    "pong-constant-rewards": Stress(
        "pong", 16_384, ZOO_PONG, lambda _: lambda _, obs, rewards: (obs, np.ones_like(rewards))
    ),
    "cartpole-healthy": Stress("cartpole", 102_400, CARTPOLE),
    "cartpole-nan-observations": Stress(
        "cartpole", 51_200, CARTPOLE, lambda _: nan_observations, guards={"on_nonfinite_obs": "repeat_last"}
    ),
    "cartpole-one-sample-mask": Stress("cartpole", 20_064, CONTRIB, algorithm="mask", n_envs=1),
    "cartpole-one-sample-lstm": Stress("cartpole", 10_032, CONTRIB, algorithm="lstm", n_envs=1),
    "cartpole-drift": Stress("cartpole", 800_000, DRIFT, drifting),
}
ALGORITHMS = {
    "ppo": (PPO, StablePPO, ""),
    "mask": (MaskablePPO, StableMaskablePPO, "Maskable"),
    "lstm": (RecurrentPPO, StableRecurrentPPO, "Recurrent"),
}


def build(stress: Stress, variant: str, seed: int) -> Any:
    """A model in its env, yet to be trained."""
    stock, stable, prefix = ALGORITHMS[stress.algorithm]
    ours = variant != "stock"
    if stress.env == "pong":
        env = make_atari_vec_env("PongNoFrameskip-v4", stress.n_envs, seed) if ours else make_pong(seed, stress.n_envs)
    else:
        env = make_vec_env("CartPole-v1", stress.n_envs, seed)
    if stress.alter is not None:
        env = Altered(env, stress.alter(seed))
    kind = "Pong" if stress.env == "pong" else "Mlp"
    stock_policy = {"ppo": "CnnPolicy" if kind == "Pong" else "MlpPolicy", "mask": "MlpPolicy", "lstm": "MlpLstmPolicy"}
    policy = getattr(policies, f"Stable{prefix}{kind}Policy") if ours else stock_policy[stress.algorithm]
    options = FAST_PATH if ours and stress.env == "pong" else {}
    if variant == VARIANTS[2]:
        return stable(policy, env, seed=seed, guards=stress.guards or {}, **stress.settings, **options)
    return stock(policy, env, seed=seed, **stress.settings, **options)


def run(stress: str, variant: str, seed: int, steps: int | None = None) -> dict[str, Any]:
    """Train one cell to its end, whatever that is; ``steps``: the stress's own."""
    warnings.simplefilter("ignore")
    spec, signs, start = STRESSES[stress], VitalSigns(), time.perf_counter()
    model = build(spec, variant, seed)
    outcome, reason = "survived", None
    try:
        model.learn(steps or spec.steps, callback=signs, **({"use_masking": False} if spec.algorithm == "mask" else {}))
    except CollapseError as error:
        outcome, reason = "stopped with CollapseError", str(error)[:200]
    except ValueError as error:
        if not is_broken_distribution(error):
            raise
        outcome, reason = "collapsed", described(error, 120)
    if outcome == "survived" and (reason := collapsed(signs.signs, FLOORS[spec.env])):
        outcome = "collapsed"
    model.env.close()
    last = signs.signs[-1]._asdict() if signs.signs else {}
    thinned = signs.signs[:: max(len(signs.signs) // 50, 1)]
    return {
        "outcome": outcome,
        "reason": reason,
        "steps": model.num_timesteps,
        "last": last,
        "mean_return": float(np.mean([value for _, value in signs.returns])) if signs.returns else None,
        **guard_counts(model),
        "signs": [[s.step, round(s.kl, 5), round(s.dormant, 3), s.srank, round(s.entropy, 4), s.ret] for s in thinned],
        "minutes": round((time.perf_counter() - start) / 60, 2),
    }


def spread(cells: list[dict[str, Any]], n_workers: int, address: str | None, again: bool) -> None:
    """Each cell in a process of its own, here or on a Ray cluster."""
    flags = ["--again"] if again else []
    jobs = []
    for cell in cells:
        name = "_".join(str(value).replace(", ", "_").replace(" ", "_") for value in cell.values())
        argv = ["--stresses", cell["stress"], "--variants", cell["variant"], "--seeds", str(cell["seed"]), *flags]
        jobs.append(Job(name, (str(Path(__file__).resolve()), *argv)))
    run_jobs = run_here if address is None else partial(run_on_ray, address=address)
    statuses = run_jobs(jobs, n_workers, Path("logs") / "gauntlet", {"BENCHMARK_RESULTS": str(folder().resolve())})
    for name in [name for name, status in statuses.items() if status]:
        print(f"{name} failed with status {statuses[name]}: logs/gauntlet/{name}.log")


def table() -> str:
    """A line for each stress: the outcome of each seed, and the last return."""
    lines = []
    for stress in STRESSES:
        cells = []
        for variant in VARIANTS:
            rows = [
                row for row in finished(NAME) if row["cell"] == {**row["cell"], "stress": stress, "variant": variant}
            ]
            words = []
            for row in rows:
                ret = row["last"].get("ret")
                reason = "NaN outputs" if "Expected parameter" in (row["reason"] or "") else row["reason"]
                note = f" ({reason})" if reason else f" ({'-' if ret is None else format(ret, '.4g')})"
                undone = f", {row['undone_updates']} undone" if row["undone_updates"] else ""
                words.append(f"{row['outcome']}{note}{undone}")
            cells.append("; ".join(words) or "-")
        lines.append([stress, *cells])
    return markdown(["stress", *VARIANTS], lines)


def plot(path: Path) -> None:
    """A square for each run: what became of it."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.patches import Rectangle

    colours = {"survived": "#4c9f70", "stopped with CollapseError": "#d9a441", "collapsed": "#b3403a"}
    rows = finished(NAME)
    seeds = sorted({row["cell"]["seed"] for row in rows})
    _, axes = plt.subplots(figsize=(8, 4.6), layout="constrained")
    for y, stress in enumerate(STRESSES):
        for x, variant in enumerate(VARIANTS):
            for place, seed in enumerate(seeds):
                cell = {"stress": stress, "variant": variant, "seed": seed}
                colour = next((colours[row["outcome"]] for row in rows if row["cell"] == cell), "#dddddd")
                width = 0.96 / len(seeds)
                axes.add_patch(Rectangle((x + 0.02 + place * width, y + 0.06), width - 0.02, 0.88, color=colour))
    axes.set(xlim=(0, len(VARIANTS)), ylim=(len(STRESSES), 0), title=f"A square for each run, seeds {seeds}")
    axes.set_xticks([x + 0.5 for x in range(len(VARIANTS))], [name.replace(", ", ",\n") for name in VARIANTS])
    axes.set_yticks([y + 0.5 for y in range(len(STRESSES))], list(STRESSES))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.legend(
        [Rectangle((0, 0), 1, 1, color=colour) for colour in colours.values()],
        list(colours),
        loc="upper left",
        bbox_to_anchor=(1, 1),
        frameon=False,
    )
    plt.savefig(path, dpi=110)


def options() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--stresses", nargs="+", default=list(STRESSES), choices=list(STRESSES), metavar="STRESS")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--again", action="store_true", help="run what is on record too; nothing is overwritten")
    parser.add_argument("--workers", type=int, default=1, help="cells at once")
    parser.add_argument("--ray", metavar="ADDRESS", help="of a Ray cluster, or auto")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="only draw what is on record")
    return parser


def main() -> None:
    args = parsed(options())
    if args.plot:
        plot(args.plot)
        return
    cells = [
        {"stress": stress, "variant": variant, "seed": seed}
        for seed in args.seeds
        for stress in args.stresses
        for variant in args.variants
    ]
    if args.smoke:
        cells = [{"stress": "cartpole-nan-observations", "variant": VARIANTS[2], "seed": 0, "steps": 512}]
    cells = [cell for cell in cells if not args.table and (args.again or not is_done(NAME, cell))]
    if (args.workers > 1 or args.ray) and not args.smoke:
        spread(cells, args.workers, args.ray, args.again)
    else:
        for cell in cells:
            figures = run(**cell)
            record(NAME, cell, figures)
            print(cell, figures["outcome"], figures["reason"], f"{figures['minutes']} min", flush=True)
    print(table())


if __name__ == "__main__":
    main()
