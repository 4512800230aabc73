"""
What ``sb3-stable-ppo tune`` searches: a trial's parameters, and the YAML entry that they and a configuration make.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Mapping
from typing import Any, Protocol

VERSION = 3
"""Of the space. A study goes on in its own: 1 is that of version 0.1.0, without rollouts and ``kl_adaptive``, and 2 has
no interventions."""
WITHOUT_CALLBACKS = 2
"""The last space that consists of the algorithm's arguments alone."""
SPACES = (1, 2, VERSION)
SCHEDULES = ("constant", "linear", "step", "cosine", "kl_adaptive")
OF_SPACE_1 = SCHEDULES[:4]
DECAYS = 20
"""Of ``step``: so many over the run, by 0.9 each, which end at an eighth of the start."""

ROLLOUT = ("n_steps", "batch_size")
"""Searched as powers of two, unless all trials have the same by ``--hyperparams``."""
N_STEPS, BATCH_SIZE = (5, 11), (5, 10)
"""Powers of two: 32 to 2048 steps of each env, minibatches of 32 to 1024 samples."""
LEAST_UPDATES = 10
"""A run has at least as many: its rollouts are not longer than a tenth of its steps."""

INTERVENTIONS: dict[str, tuple[str, float, float]] = {
    "L2Init": ("strength", 1e-6, 1e-2),
    "WeightClip": ("kappa", 0.5, 5.0),
    "SpectralCap": ("cap", 0.8, 4.0),
}
"""Callbacks that are searched, one at a time: the argument that says how strong it is, and its range. All of them serve
every algorithm that is tuned."""

LESS, POWER = "one_minus_", "_pow"
"""They begin and end the names of what is searched by its distance from 1, and as a power of 2; rl_zoo3's words."""
NUMBERS = ("n_epochs", "clip_range", "ent_coef", "gamma", "gae_lambda")
SEARCHED = (*ROLLOUT, "learning_rate", *NUMBERS, "policy_kwargs", "guards")
"""Hyperparameters that a trial changes."""
NETWORK = ("norm", "norm_position", "activation", "negative_slope", "init_gain")
"""What a trial changes of ``policy_kwargs``."""
SEARCHED_IN = {"policy_kwargs": (*NETWORK, "activation_fn"), "guards": ("max_kl",)}
"""What a trial changes of those that it merges; ``activation_fn`` is SB3's name of ``activation``."""


class Suggests(Protocol):
    """What is used of ``optuna.Trial``."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...

    def suggest_categorical(self, name: str, choices: Any) -> Any: ...


def sample(
    trial: Suggests,
    guarded: bool,
    *,
    n_timesteps: int | None = None,
    n_envs: int = 1,
    held: Collection[str] = (),
    version: int = VERSION,
) -> dict[str, Any]:
    """
    Draw a trial's parameters. What only makes sense with another (the slope of LeakyReLU) is drawn only with it.

    :param trial: Optuna's
    :param guarded: whether the algorithm has guards
    :param n_timesteps: of each run, which bounds the length of a rollout; None: no bound
    :param n_envs: of each run
    :param held: those of ``ROLLOUT`` that are not searched
    :param version: of the space
    :return: by name, as the study shows them
    """
    schedules = OF_SPACE_1 if version == 1 else SCHEDULES
    params: dict[str, Any] = {
        "learning_rate": trial.suggest_float("learning_rate", 1e-5, 5e-3, log=True),
        "schedule": trial.suggest_categorical("schedule", schedules),
        "n_epochs": trial.suggest_int("n_epochs", 1, 20, log=True),
        "clip_range": trial.suggest_float("clip_range", 0.05, 0.4),
        "ent_coef": trial.suggest_float("ent_coef", 1e-8, 0.1, log=True),
        "one_minus_gamma": trial.suggest_float("one_minus_gamma", 1e-3, 0.1, log=True),
        "one_minus_gae_lambda": trial.suggest_float("one_minus_gae_lambda", 1e-3, 0.3, log=True),
        "norm": trial.suggest_categorical("norm", ("layer", "batch", "none")),
        "activation": trial.suggest_categorical("activation", ("leaky_relu", "relu", "elu", "tanh")),
        "init_gain": trial.suggest_float("init_gain", 0.5, 1.5),
    }
    if params["norm"] != "none":
        params["norm_position"] = trial.suggest_categorical("norm_position", ("before", "after"))
    if params["activation"] == "leaky_relu":
        params["negative_slope"] = trial.suggest_float("negative_slope", 1e-3, 0.3, log=True)
    if guarded:
        params["max_kl"] = trial.suggest_float("max_kl", 0.1, 3.0, log=True)
    if version > 1:
        ranges = {"n_steps": _n_steps(n_timesteps, n_envs), "batch_size": BATCH_SIZE}
        for name in (f"{name}{POWER}" for name in ROLLOUT if name not in held):
            params[name] = trial.suggest_int(name, *ranges[name.removesuffix(POWER)])
    if version > WITHOUT_CALLBACKS:
        chosen = params["intervention"] = trial.suggest_categorical("intervention", ("none", *INTERVENTIONS))
        if chosen != "none":
            argument, low, high = INTERVENTIONS[chosen]
            name = f"{chosen}_{argument}"
            params[name] = trial.suggest_float(name, low, high, log=True)
    return params


def version_of(trial: Any) -> int:
    """
    The version of the space that a study was begun in, by the choices of its trials.

    :param trial: the one that is to be drawn; one of no study is of this version
    """
    study = getattr(trial, "study", None)
    known = [] if study is None else [other.distributions for other in study.get_trials(deepcopy=False)]
    begun = [each for each in known if "schedule" in each]
    if any(SCHEDULES[-1] not in each["schedule"].choices for each in begun):
        return 1
    return WITHOUT_CALLBACKS if any("intervention" not in each for each in begun) else VERSION


def _n_steps(n_timesteps: int | None, n_envs: int) -> tuple[int, int]:
    """The range of the power of two that ``n_steps`` is, the same in all trials of a study."""
    low, high = N_STEPS
    if n_timesteps is not None:
        high = min(max(n_timesteps // (LEAST_UPDATES * n_envs), 2).bit_length() - 1, high)
    return min(low, high), high


def as_hyperparams(params: Mapping[str, Any], base: Mapping[str, Any], n_timesteps: int) -> dict[str, Any]:
    """
    A configuration with a trial's parameters in it: what it says of the network is merged, not replaced. A minibatch
    is at most the rollout.

    :param params: as :func:`sample` gives them, or ``trial.params``
    :param base: an entry of a YAML file
    :param n_timesteps: of the run
    :return: an entry of a YAML file
    """
    entry: dict[str, Any] = copy.deepcopy(dict(base))
    shown = as_shown(params, *rollout_of(entry))
    entry |= {name: shown[name] for name in (*ROLLOUT, *NUMBERS) if name in shown}
    n_updates = max(n_timesteps // math.prod(rollout_of(entry)), 1)
    entry["n_timesteps"] = n_timesteps
    entry["learning_rate"] = _schedule(params["schedule"], params["learning_rate"], n_updates)
    network = {name: params[name] for name in NETWORK if name in params}
    replaced = SEARCHED_IN["policy_kwargs"]
    kept = {name: value for name, value in (entry.get("policy_kwargs") or {}).items() if name not in replaced}
    entry["policy_kwargs"] = {**kept, **network}
    if "max_kl" in params:
        entry["guards"] = {**(entry.get("guards") or {}), "max_kl": params["max_kl"]}
    if "intervention" in params:
        callbacks = _without_searched(entry.get("callback"))
        chosen = params["intervention"]
        if chosen != "none":
            argument, *_ = INTERVENTIONS[chosen]
            callbacks.append({f"sb3_stable_ppo.{chosen}": {argument: params[f"{chosen}_{argument}"]}})
        if callbacks or "callback" in entry:
            entry["callback"] = callbacks
    return entry


def _without_searched(specified: Any) -> list[Any]:
    """The callbacks of a YAML entry, in any of rl_zoo3's forms, but for the interventions that are searched."""
    entries = specified if isinstance(specified, list) else [] if specified is None else [specified]
    return [entry for entry in entries if searched_intervention(entry) is None]


def searched_intervention(entry: Any) -> str | None:
    """
    >>> searched_intervention({"sb3_stable_ppo.interventions.L2Init": {"strength": 0.1}})
    'L2Init'

    :param entry: a callback of a configuration, in any of rl_zoo3's forms
    :return: the name of the intervention that it is, if trials choose between it and others
    """
    path = str(next(iter(entry), "") if isinstance(entry, Mapping) else entry)
    name = path.rsplit(".", 1)[-1]
    return name if path.startswith("sb3_stable_ppo.") and name in INTERVENTIONS else None


def rollout_of(entry: Mapping[str, Any]) -> tuple[int, int]:
    """
    :param entry: of a YAML file
    :return: ``n_envs`` and ``n_steps``
    """
    return int(entry.get("n_envs", 1)), int(entry.get("n_steps", 2048))


def as_shown(params: Mapping[str, Any], n_envs: int = 1, n_steps: int = 2048) -> dict[str, Any]:
    """
    A trial's parameters by the names and values that a configuration has.

    >>> as_shown({"n_epochs": 3, "one_minus_gamma": 0.02, "n_steps_pow": 5, "batch_size_pow": 7}, n_envs=2)
    {'n_epochs': 3, 'gamma': 0.98, 'n_steps': 32, 'batch_size': 64}

    :param params: ``trial.params``
    :param n_envs: of the configuration
    :param n_steps: of the configuration, where it is not searched
    """
    shown: dict[str, Any] = {}
    for name, value in params.items():
        if name.startswith(LESS):
            shown[name.removeprefix(LESS)] = 1 - value
        elif name.endswith(POWER):
            shown[name.removesuffix(POWER)] = 2**value
        else:
            shown[name] = value
    if "batch_size" in shown:
        shown["batch_size"] = min(shown["batch_size"], shown.get("n_steps", n_steps) * n_envs)
    return shown


def _schedule(kind: str, initial: float, n_updates: int) -> float | dict[str, Any]:
    if kind == "constant":
        return initial
    if kind == "step":
        return {"schedule": "step", "initial": initial, "step_size": max(n_updates // DECAYS, 1), "gamma": 0.9}
    return {"schedule": kind, "initial": initial}
