"""
Loss of plasticity where it is known to come: PPO on one task after another, with and without interventions.

    python benchmarks/continual.py --variants PPO L2Init --seeds 0 1 2                          # half an hour a run
    python benchmarks/continual.py --variants PPO L2Init --seeds 0 1 2 --tasks 5 --rollouts 30   # 3 minutes a run
    python benchmarks/continual.py --table

The setting of C-CHAIN (https://arxiv.org/abs/2506.00592, github.com/bluecontra/C-CHAIN), which has it from TRAC: ten
tasks of 200 rollouts of 800 steps; in each task but the first a constant is added to the observations, drawn with a
standard deviation of 2; actor and critic of three layers of 256 units with LeakyReLU(0.1) and torch's init; Adam at
0.001, minibatches of 32, 5 epochs, clip range 0.2, entropy 0.01, rewards divided by 20, episodes of 400 steps at most,
no clipping of gradients, advantages normalised over the rollout. TRAC has a learning rate of 0.01. What SB3 does
otherwise: episodes go on from one rollout to the next, and the critic learns the returns of GAE, not discounted sums.

Each finished run is a line in results/continual.jsonl: the mean return of the episodes of each task, of its second
half, and the layers at the end.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from statistics import mean
from types import MappingProxyType
from typing import Any, NamedTuple

import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from torch import nn

import sb3_stable_ppo as ours
from command import add_cell_flag, benchmark_parser, markdown, parsed, run_in_processes
from episodes import Episodes
from intervals import shown
from record import finished
from sb3_stable_ppo.common.errors import one_line
from sb3_stable_ppo.common.tensors import is_broken_distribution
from sb3_stable_ppo.health.figures import inspect_policy, layer_figures
from sb3_stable_ppo.probes import ActivationProbe
from sb3_stable_ppo.probes.rows import strided_observations
from shifted import shifted_env, task_returns
from suite_settings import WholeRollout
from vitals import guard_counts

NAME = "continual"
TASKS, ROLLOUTS, N_STEPS = 10, 200, 800
SCREENING = {"tasks": 5, "rollouts": 30}
REWARD_SCALE, LONGEST, SLOPE = 20.0, 400, 0.1
NUMBERS: dict[str, Any] = {"n_steps": N_STEPS, "batch_size": 32, "n_epochs": 5, "ent_coef": 0.01}
ADVANTAGES: dict[str, dict[str, Any]] = {
    "minibatch": {},
    "rollout": {"rollout_buffer_class": WholeRollout, "normalize_advantage": False},
}
"""What they are normalised over."""
CHOICES: dict[str, Any] = {"learning_rate": 0.001, "advantages": "rollout", "adam_eps": 1e-8, "max_grad_norm": None}
"""What C-CHAIN's code has."""
BEFORE: dict[str, Any] = {"learning_rate": 0.01, "advantages": "minibatch"}
"""What a line that does not say it was made with."""


class Variant(NamedTuple):
    """
    :param callbacks: makes the interventions
    :param algorithm: PPO or StablePPO
    :param policy: SB3's ``MlpPolicy``, or ours: LayerNorm and LeakyReLU(0.1), of the same widths
    :param options: further ones of the policy
    """

    callbacks: Callable[[], list[BaseCallback]] = list
    algorithm: type[PPO] = PPO
    policy: str = "MlpPolicy"
    options: Mapping[str, Any] = MappingProxyType({})


def watched(*interventions: BaseCallback) -> list[BaseCallback]:
    """Interventions that wait for an alarm, behind the callback that raises it."""
    return [ours.HealthCallback(budget=None, every_updates=1), *interventions]


ALARM = {"on_alarm": "one_action"}
VARIANTS: dict[str, Variant] = {
    "PPO": Variant(),
    "StablePPO": Variant(algorithm=ours.StablePPO),
    "StableMlpPolicy": Variant(policy="StableMlpPolicy"),
    "StablePPO, StableMlpPolicy": Variant(algorithm=ours.StablePPO, policy="StableMlpPolicy"),
    "StableMlpPolicy, WeightProjection": Variant(lambda: [ours.WeightProjection()], policy="StableMlpPolicy"),
    "StableMlpPolicy, norm_input": Variant(policy="StableMlpPolicy", options={"norm_input": "running"}),
    "StableMlpPolicy, tanh": Variant(policy="StableMlpPolicy", options={"activation": "tanh"}),
    "L2Init": Variant(lambda: [ours.L2Init()]),
    "ShrinkPerturb": Variant(lambda: [ours.ShrinkPerturb()]),
    "ShrinkPerturb at one_action": Variant(lambda: watched(ours.ShrinkPerturb(when=ALARM))),
    "a fresh network at one_action": Variant(
        lambda: watched(ours.ShrinkPerturb(0.0, 1.0, when=ALARM), ours.AdamReset("full", when=ALARM))
    ),
    "WeightClip": Variant(lambda: [ours.WeightClip()]),
    "SpectralCap": Variant(lambda: [ours.SpectralCap()]),
    "AdamReset": Variant(lambda: [ours.AdamReset()]),
    "ChurnReduction": Variant(lambda: [ours.ChurnReduction()]),
    "FeatureRegularization": Variant(lambda: [ours.FeatureRegularization()]),
    "ReDo": Variant(lambda: [ours.ReDo()]),
    "ReGraMa": Variant(lambda: [ours.ReGraMa()]),
    "ReGraMa, least_gradient 0": Variant(lambda: [ours.ReGraMa(least_gradient=0.0)]),
    "ContinualBackprop": Variant(lambda: [ours.ContinualBackprop()]),
}
SMOKE: dict[str, Any] = {"env": "CartPole-v1", "variant": "L2Init", "seed": 0, **CHOICES, "tasks": 2, "rollouts": 1}


class Leaky(nn.LeakyReLU):
    """LeakyReLU, by a class without arguments, as SB3's ``activation_fn`` wants it."""

    def __init__(self) -> None:
        super().__init__(SLOPE)


class Watch(Episodes):
    """Observations of the last rollout too, on which the layers are judged at the end."""

    def _on_rollout_end(self) -> None:
        self.rows = self.model.policy.obs_to_tensor(strided_observations(self.model.rollout_buffer, 64))[0]  # type: ignore[attr-defined]


def run(
    env: str,
    variant: str,
    seed: int,
    tasks: int = TASKS,
    rollouts: int = ROLLOUTS,
    learning_rate: float = CHOICES["learning_rate"],
    advantages: str = CHOICES["advantages"],
    adam_eps: float = CHOICES["adam_eps"],
    max_grad_norm: float | None = CHOICES["max_grad_norm"],
) -> dict[str, Any]:
    """Train through all tasks."""
    th.set_num_threads(1)
    warnings.simplefilter("ignore", UserWarning)
    task_steps = rollouts * N_STEPS
    callbacks, algorithm, policy, options = VARIANTS[variant]
    own = {"activation_fn": Leaky, "ortho_init": False} if policy == "MlpPolicy" else {"negative_slope": SLOPE}
    network = {"net_arch": [256] * 3, "optimizer_kwargs": {"eps": adam_eps}, **own, **options}
    numbers = {
        **NUMBERS,
        **ADVANTAGES[advantages],
        "learning_rate": learning_rate,
        "max_grad_norm": 1e9 if max_grad_norm is None else max_grad_norm,
    }
    shifted = shifted_env(env, seed, tasks, task_steps, LONGEST, REWARD_SCALE)
    model = algorithm(getattr(ours, policy, policy), shifted, policy_kwargs=network, seed=seed, **numbers)
    episodes, broken, start = Watch(), "", time.perf_counter()
    try:
        model.learn(tasks * task_steps, callback=[episodes, *callbacks()])
    except ValueError as error:  # with which SB3 ends a run whose policy has become NaN, and the guards one in vain
        if not is_broken_distribution(error) and not isinstance(error, ours.CollapseError):
            raise
        broken = one_line(error, 100)
    found: dict[str, Any] = dict(task_returns(episodes.ended, tasks, task_steps))
    if broken:
        found["broken"] = [model.num_timesteps, broken]
    else:
        probe = ActivationProbe(model.policy)
        layers = layer_figures(probe, inspect_policy(model.policy, probe, episodes.rows).activations)
        found["live"] = {name: [int(layer["live"]), int(layer["units"])] for name, layer in layers.items()}
    return {**found, **guard_counts(model), "minutes": round((time.perf_counter() - start) / 60, 2)}


def settings_of(cell: dict[str, Any]) -> tuple[Any, ...]:
    """What a run was made with beside variant and seed: env, tasks, rollouts of each, and the choices."""
    given = {**CHOICES, "tasks": TASKS, "rollouts": ROLLOUTS, **({} if "learning_rate" in cell else BEFORE), **cell}
    return tuple(given[name] for name in ("env", "tasks", "rollouts", *CHOICES))


def table() -> str:
    """A table for each env, size and settings that there are runs of."""
    rows = finished(NAME)
    return "\n\n".join(table_of(settings, rows) for settings in dict.fromkeys(settings_of(row["cell"]) for row in rows))


def screening_table() -> str:
    """The table of the short runs, in which all variants were tried."""
    return table_of(("CartPole-v1", *SCREENING.values(), *CHOICES.values()), finished(NAME))


def table_of(settings: tuple[Any, ...], rows: Sequence[dict[str, Any]]) -> str:
    """
    A row for each variant: the mean return in the first task, where nothing is lost yet, in all later ones, in the
    second half of the last, and what broke.

    :param settings: of the runs, as :func:`settings_of` tells
    :param rows: all runs
    """
    lines = []
    for variant in VARIANTS:
        own = [row for row in rows if row["cell"]["variant"] == variant and settings_of(row["cell"]) == settings]
        if own:
            first = [row["returns"][0] or 0.0 for row in own]
            later = [mean(ret or 0.0 for ret in row["returns"][1:]) for row in own]
            last = [row["late_returns"][-1] or 0.0 for row in own]
            broken = sum("broken" in row for row in own)
            lines.append([variant, len(own), *(shown(values) for values in (first, later, last)), broken])
    env, tasks, rollouts, *_ = settings
    heads = [f"{env.partition('-')[0]}, {tasks} tasks of {rollouts} rollouts", "seeds", "first task", "later tasks"]
    return markdown([*heads, "second half of the last", "ended in an error"], lines)


def options() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--envs", nargs="+", default=["CartPole-v1"])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--learning-rate", type=float, default=CHOICES["learning_rate"])
    parser.add_argument("--advantages", default=CHOICES["advantages"], choices=list(ADVANTAGES), help="normalised over")
    parser.add_argument("--adam-eps", type=float, default=CHOICES["adam_eps"])
    parser.add_argument("--max-grad-norm", type=float, help="of all gradients together; without it none is clipped")
    parser.add_argument("--tasks", type=int, default=TASKS, help="fewer for a screening")
    parser.add_argument("--rollouts", type=int, default=ROLLOUTS, help="of each task; fewer for a screening")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time")
    add_cell_flag(parser)
    return parser


def main() -> None:
    args = parsed(options())
    short = {"tasks": args.tasks, "rollouts": args.rollouts} if (args.tasks, args.rollouts) != (TASKS, ROLLOUTS) else {}
    choices = {name: getattr(args, name) for name in CHOICES}
    cells: list[dict[str, Any]] = [
        {"env": env, "variant": variant, "seed": seed, **choices, **short}
        for seed in args.seeds
        for env in args.envs
        for variant in args.variants
    ]
    os.environ["OMP_NUM_THREADS"] = "1"
    run_in_processes(__file__, NAME, args, [SMOKE] if args.smoke else cells, run, table, args.workers)


if __name__ == "__main__":
    main()
