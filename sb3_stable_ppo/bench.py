"""
Training speed on this machine: stock SB3, and our fast path one option after the other. ``sb3-stable-ppo bench``.

Each variant trains in a process of its own, so that neither memory nor threads are shared; variants take turns.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from stable_baselines3 import PPO
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_stable_ppo.algorithms import StablePPO
from sb3_stable_ppo.common.checks import did_you_mean
from sb3_stable_ppo.envs.atari import make_atari_vec_env
from sb3_stable_ppo.fast.rollout_buffer import TorchRolloutBuffer

ZOO: dict[str, Any] = {
    "learning_rate": 2.5e-4,
    "n_steps": 128,
    "n_epochs": 4,
    "clip_range": 0.1,
    "ent_coef": 0.01,
}
"""rl_zoo3's settings for Atari, but for the schedules; its batch_size is 256."""
BATCH_SIZE = 256


class Variant(NamedTuple):
    """A way to train: the algorithm, its env as ``make_atari_vec_env`` has it, its policy and further arguments."""

    algorithm: type[OnPolicyAlgorithm]
    vec_env: str
    policy: str
    policy_kwargs: dict[str, Any]
    options: dict[str, Any]


_BUFFER: dict[str, Any] = {"rollout_buffer_class": TorchRolloutBuffer}
_BUFFER_CHANNELS_LAST = {**_BUFFER, "rollout_buffer_kwargs": {"memory_format": "channels_last"}}
_NORM: dict[str, Any] = {"norm": "batch"}
_FUSED = {**_NORM, "optimizer_kwargs": {"fused": True}}
_CHANNELS_LAST = {**_FUSED, "memory_format": "channels_last"}
_BF16 = {**_CHANNELS_LAST, "precision": "auto"}
_COMPILED = {**_BF16, "compile": "auto"}
VARIANTS = {
    "stock SB3, DummyVecEnv": Variant(PPO, "dummy", "CnnPolicy", {}, {}),
    "stock SB3, SubprocVecEnv": Variant(PPO, "subproc", "CnnPolicy", {}, {}),
    "stock SB3, ALE env": Variant(PPO, "ale", "CnnPolicy", {}, {}),
    "StableCnnPolicy with BatchNorm, ALE env": Variant(PPO, "ale", "StableCnnPolicy", _NORM, {}),
    "+ TorchRolloutBuffer, fused Adam": Variant(PPO, "ale", "StableCnnPolicy", _FUSED, _BUFFER),
    "+ channels_last": Variant(PPO, "ale", "StableCnnPolicy", _CHANNELS_LAST, _BUFFER_CHANNELS_LAST),
    "+ precision: auto": Variant(PPO, "ale", "StableCnnPolicy", _BF16, _BUFFER_CHANNELS_LAST),
    "+ compile: auto": Variant(PPO, "ale", "StableCnnPolicy", _COMPILED, _BUFFER_CHANNELS_LAST),
    "all of it, StablePPO": Variant(StablePPO, "ale", "StableCnnPolicy", _COMPILED, _BUFFER_CHANNELS_LAST),
}
SHORT_NAMES = dict(
    zip(("dummy", "subproc", "ale", "norm", "buffer", "channels_last", "bf16", "compile", "all"), VARIANTS, strict=True)
)
"""What one types for a variant, in the order of the numbers that stand for them too."""
BASE = next(iter(VARIANTS))
"""What the others are compared with."""


def find_variant(word: str) -> str:
    """
    A variant by its short name or its number.

    >>> find_variant("ale"), find_variant("3")
    ('stock SB3, ALE env', 'stock SB3, ALE env')

    :param word: one of ``SHORT_NAMES``, or its number from 1 on
    :raises ValueError: if it is neither, with the nearest name and all names
    """
    if word.isdecimal() and 1 <= int(word) <= len(SHORT_NAMES):
        return list(SHORT_NAMES.values())[int(word) - 1]
    if word in SHORT_NAMES:
        return SHORT_NAMES[word]
    raise ValueError(
        f"Unknown variant {word!r}{did_you_mean(word, SHORT_NAMES)}: choose from {', '.join(SHORT_NAMES)}, or a number "
        f"from 1 to {len(SHORT_NAMES)}."
    )


def train(variant: str, env_id: str, n_envs: int, steps: int, seed: int) -> dict[str, float]:
    """
    Train in this process: two rollouts with their updates to warm up (compilation is in them), then ``steps`` timed.

    :param variant: one of ``VARIANTS``
    :param env_id: an Atari game
    :param n_envs: number of games
    :param steps: so many are timed, in whole rollouts
    :param seed: of model and games
    :return: ``steps_per_s``, ``warm_up_s``, and ``peak_mib``: this process' peak, and what its children hold at the end
    """
    algorithm, vec_env, policy, policy_kwargs, options = VARIANTS[variant]
    env = make_atari_vec_env(env_id, n_envs, seed, vec_env=vec_env)
    rollout = ZOO["n_steps"] * n_envs
    # by alias where the algorithm has one: stock PPO knows its own policies, ours are given as classes
    policy_class: Any = policy if policy in algorithm.policy_aliases else StablePPO.policy_aliases[policy]
    model = algorithm(  # type: ignore[call-arg]  # PPO's arguments
        policy_class,
        env,
        seed=seed,
        batch_size=min(BATCH_SIZE, rollout),
        policy_kwargs=policy_kwargs or None,
        **ZOO,
        **options,
    )
    start = time.perf_counter()
    model.learn(2 * rollout)
    warm_up = time.perf_counter() - start
    before = model.num_timesteps
    start = time.perf_counter()
    model.learn(steps, reset_num_timesteps=False)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 + descendants_mib()
    env.close()
    return {"steps_per_s": (model.num_timesteps - before) / seconds, "warm_up_s": warm_up, "peak_mib": peak}


def descendants_mib() -> float:
    """
    What the processes that this one has begun, directly or not, hold now, each page shared among those that share it
    (Linux' Pss): the envs of SubprocVecEnv, torch's compile workers. 0 where there is no /proc.
    """
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended since
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found, kib = {os.getpid()}, 0
    for _ in parents:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        if not more:
            break
        found |= more
    for pid in found - {os.getpid()}:
        with suppress(OSError):
            kib += int(Path(f"/proc/{pid}/smaps_rollup").read_text().partition("Pss:")[2].split()[0])
    return kib / 1024


def turns(variants: Sequence[str], rounds: int) -> Iterator[tuple[int, str]]:
    """
    The order of the measurements: one variant after the other, and back in every second round, so that a machine that
    gets slower by the minute favours none.

    >>> list(turns(["stock", "ours"], 2))
    [(0, 'stock'), (0, 'ours'), (1, 'ours'), (1, 'stock')]

    :param variants: the variants to measure
    :param rounds: how often each is measured
    :return: the number of the round, from 0, and a variant
    """
    for number in range(rounds):
        for variant in variants if number % 2 == 0 else reversed(variants):
            yield number, variant


def measure(cells: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], dict[str, float]]]:
    """
    Train one cell after the other, each in a process of its own.

    :param cells: arguments of :func:`train`
    :raises RuntimeError: with the last line of what a process said when it failed
    """
    for cell in cells:
        command = [sys.executable, "-m", "sb3_stable_ppo.bench", json.dumps(dict(cell))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{cell['variant']}: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
        yield cell, json.loads(done.stdout.splitlines()[-1])


def table(rows: Iterable[tuple[str, Mapping[str, float]]]) -> str:
    """
    A Markdown table: medians and ranges by variant, in the order in which they come.

    :param rows: a variant and its figures, one for each time that it was measured
    """
    found: dict[str, list[Mapping[str, float]]] = {}
    for variant, figures in rows:
        found.setdefault(variant, []).append(figures)

    def middle(variant: str, name: str) -> float:
        return median(figures[name] for figures in found[variant])

    lines = [
        "| | steps/s, median (range) | times stock | warm-up, s | peak memory, MiB |",
        "|---|---|---|---|---|",
    ]
    for variant, measured in found.items():
        speeds = sorted(figures["steps_per_s"] for figures in measured)
        times = f"{median(speeds) / middle(BASE, 'steps_per_s'):.2f}" if BASE in found else "-"
        lines.append(
            f"| {variant} | {median(speeds):.0f} ({speeds[0]:.0f} to {speeds[-1]:.0f}) | {times} | "
            f"{middle(variant, 'warm_up_s'):.0f} | {middle(variant, 'peak_mib'):.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(json.dumps(train(**json.loads(sys.argv[1]))))
