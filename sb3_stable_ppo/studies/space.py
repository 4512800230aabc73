"""
What ``sb3-stable-ppo tune`` searches: a trial's parameters, and the YAML entry that they and a configuration make.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Protocol

VERSION = 1
"""Of the space; a study is gone on with only in its own."""
SCHEDULES = ("constant", "linear", "step", "cosine")
DECAYS = 20
"""Of ``step``: so many over the run, by 0.9 each, which end at an eighth of the start."""

LESS = "one_minus_"
"""Begins the names of parameters that are searched by their distance from 1."""
SEARCHED = ("learning_rate", "n_epochs", "clip_range", "ent_coef", "gamma", "gae_lambda", "policy_kwargs", "guards")
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


def sample(trial: Suggests, guarded: bool) -> dict[str, Any]:
    """
    Draw a trial's parameters. What only makes sense with another (the slope of LeakyReLU) is drawn only with it.

    :param trial: Optuna's
    :param guarded: whether the algorithm has guards
    :return: by name, as the study shows them
    """
    params: dict[str, Any] = {
        "learning_rate": trial.suggest_float("learning_rate", 1e-5, 5e-3, log=True),
        "schedule": trial.suggest_categorical("schedule", SCHEDULES),
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
    return params


def as_hyperparams(params: Mapping[str, Any], base: Mapping[str, Any], n_timesteps: int) -> dict[str, Any]:
    """
    A configuration with a trial's parameters in it: what it says of the network is merged, not replaced.

    :param params: as :func:`sample` gives them, or ``trial.params``
    :param base: an entry of a YAML file
    :param n_timesteps: of the run
    :return: an entry of a YAML file
    """
    entry: dict[str, Any] = copy.deepcopy(dict(base))
    n_updates = max(n_timesteps // (int(entry.get("n_steps", 2048)) * int(entry.get("n_envs", 1))), 1)
    entry["n_timesteps"] = n_timesteps
    entry["learning_rate"] = _schedule(params["schedule"], params["learning_rate"], n_updates)
    for name in ("n_epochs", "clip_range", "ent_coef"):
        entry[name] = params[name]
    entry["gamma"] = 1 - params["one_minus_gamma"]
    entry["gae_lambda"] = 1 - params["one_minus_gae_lambda"]
    network = {name: params[name] for name in NETWORK if name in params}
    replaced = SEARCHED_IN["policy_kwargs"]
    kept = {name: value for name, value in (entry.get("policy_kwargs") or {}).items() if name not in replaced}
    entry["policy_kwargs"] = {**kept, **network}
    if "max_kl" in params:
        entry["guards"] = {**(entry.get("guards") or {}), "max_kl": params["max_kl"]}
    return entry


def as_shown(params: Mapping[str, Any]) -> dict[str, Any]:
    """
    A trial's parameters by the names and values that a configuration has.

    >>> as_shown({"n_epochs": 3, "one_minus_gamma": 0.02})
    {'n_epochs': 3, 'gamma': 0.98}

    :param params: ``trial.params``
    """
    known = params.items()
    return {name.removeprefix(LESS): 1 - value if name.startswith(LESS) else value for name, value in known}


def _schedule(kind: str, initial: float, n_updates: int) -> float | dict[str, Any]:
    if kind == "constant":
        return initial
    if kind == "step":
        return {"schedule": "step", "initial": initial, "step_size": max(n_updates // DECAYS, 1), "gamma": 0.9}
    return {"schedule": kind, "initial": initial}
