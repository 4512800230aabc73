"""
Hyperparameters as rl_zoo3's YAML gives them: read its numbers right, and name what is wrong before anything runs.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from sb3_contrib import MaskablePPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_stable_ppo.algorithms.ppo import StablePPO
from sb3_stable_ppo.common.checks import did_you_mean
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.common.keywords import keywords_of
from sb3_stable_ppo.guards.config import OLD_FIELDS, GuardConfig
from sb3_stable_ppo.zoo.places import FLAG, Place, check_place
from sb3_stable_ppo.zoo.registry import ALGORITHMS

SCIENTIFIC = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")

ZOO_KEYS = (
    "callback",
    "env_kwargs",
    "env_wrapper",
    "frame_stack",
    "monitor_kwargs",
    "n_envs",
    "n_timesteps",
    "noise_std",
    "noise_type",
    "normalize",
    "reset_every",
    "resumable",
    "vec_env",
    "vec_env_kwargs",
    "vec_env_wrapper",
)
"""What rl_zoo3, or for vec_env and its options our own manager, takes out before it builds the model."""
OF_BOX_ACTIONS = ("use_sde", "sde_sample_freq")
"""Keys of PPO that mean something for continuous actions alone."""


def with_numbers(value: Any) -> Any:
    """
    ``1e-4`` is a string to YAML 1.1, which wants ``1.0e-4``: turn such strings into numbers, at any depth.

    >>> with_numbers({"ent_coef": "1e-2", "clip_range": "lin_0.1", "guards": {"max_log_ratio": "2e1"}})
    {'ent_coef': 0.01, 'clip_range': 'lin_0.1', 'guards': {'max_log_ratio': 20}}

    :param value: what YAML gave
    """
    if isinstance(value, str) and SCIENTIFIC.fullmatch(value):
        number = float(value)
        return int(number) if number.is_integer() else number  # n_steps: 1e2
    if isinstance(value, Mapping):
        return {key: with_numbers(child) for key, child in value.items()}
    if isinstance(value, list):
        return [with_numbers(child) for child in value]
    return value


def check_hyperparams(
    hyperparams: Mapping[str, Any],
    algorithm: type[BaseAlgorithm],
    source: str,
    overrides: Mapping[str, Any] | None = None,
) -> None:
    """
    Check the names in a configuration: keys, policy, policy_kwargs, guards and callbacks.

    :param hyperparams: one entry of the file
    :param algorithm: the class that is going to be built
    :param source: where they come from, for the error
    :param overrides: those among them that ``--hyperparams`` gave, of which an error says so
    :raises UsageError: naming the first that is wrong, with the nearest right one
    """
    overrides = overrides or {}

    def where(key: str) -> str:
        return FLAG if key in overrides else source

    policy = find_policy(hyperparams["policy"], algorithm, where("policy")) if "policy" in hyperparams else None
    entry, *parts = places = _places(algorithm, policy)
    if "guards" in hyperparams and "guards" not in entry.known:
        raise UsageError(
            f"{where('guards')}: {algorithm.__name__} has no guards; {', '.join(ALGORITHMS)} (--algo) have."
        )
    of_box = next((key for key in OF_BOX_ACTIONS if key in hyperparams), None)
    if of_box is not None and issubclass(algorithm, MaskablePPO):
        choose = "choose stable_ppo (--algo)"
        is_stock = source.startswith("rl_zoo3's") and of_box not in overrides  # then the env has a Box
        raise UsageError(
            f"{where(of_box)}: {of_box} is for a Box action space, and {algorithm.__name__} takes Discrete, "
            "MultiDiscrete and MultiBinary ones. "
            + (f"For this env {choose}." if is_stock else f"For a Box {choose}; for any other leave {of_box} out.")
        )
    check_place(hyperparams, entry, places, source, overrides)
    for key in ("n_timesteps", "policy"):
        if key not in hyperparams:
            raise UsageError(f"{source}: the key {key} is missing.")
    n_envs = hyperparams.get("n_envs", 1)
    if not isinstance(n_envs, int) or n_envs < 1:
        raise UsageError(f"{where('n_envs')}: n_envs must be a whole number of at least 1, not {n_envs!r}.")
    for part in parts:
        given, changed = hyperparams.get(part.name), overrides.get(part.name)
        if isinstance(given, Mapping):
            check_place(given, part, places, source, changed if isinstance(changed, Mapping) else {})
    for name, options in class_entries(hyperparams.get("callback")):
        callback = find_class(name, f"{where('callback')}: callback")
        if not isinstance(options, Mapping):
            raise UsageError(f"{where('callback')}: callback {name} is followed by a colon but by no arguments.")
        known = keywords_of(callback)
        for key in options:
            if key not in known:
                hint = f"{did_you_mean(key, known)}. Known are {', '.join(sorted(known))}."
                raise UsageError(f"{where('callback')}: {callback.__name__} has no argument {key!r}{hint}")


def _places(algorithm: type[BaseAlgorithm], policy: type | None) -> tuple[Place, ...]:
    """The entry itself, ``policy_kwargs`` and ``guards``."""
    known = keywords_of(algorithm)
    network = keywords_of(policy) - {"observation_space", "action_space", "lr_schedule"} if policy else set()
    guards = {field.name for field in fields(GuardConfig)} | set(OLD_FIELDS) if "guards" in known else set()
    return (
        Place("", known - {"env", "seed", "verbose", "device", "tensorboard_log"} | set(ZOO_KEYS), "unknown key"),
        Place("policy_kwargs", network, f"{policy.__name__} has no policy_kwargs key" if policy else ""),
        Place("guards", guards, ""),  # GuardConfig's own error names the nearest
    )


def find_policy(policy: Any, algorithm: type[BaseAlgorithm], source: str) -> type:
    """
    The policy class behind a name: an alias of the algorithm or a dotted path.

    :param policy: what the file says
    :param algorithm: whose aliases count
    :param source: where it comes from, for the error
    :raises UsageError: if there is no such policy
    """
    if isinstance(policy, str) and "." in policy:
        return find_class(policy, f"{source}: policy")
    if policy not in algorithm.policy_aliases:
        hint = _dotted(policy, algorithm) or did_you_mean(policy, algorithm.policy_aliases)
        raise UsageError(
            f"{source}: unknown policy {policy!r}{hint}. "
            f"{algorithm.__name__} knows {', '.join(algorithm.policy_aliases)}; "
            "any other goes by its dotted path."
        )
    return algorithm.policy_aliases[policy]


def _dotted(policy: Any, algorithm: type[BaseAlgorithm]) -> str:
    """The path of a policy of ours that stock PPO or A2C was given by its name, as :func:`did_you_mean` has it."""
    ours = algorithm in (A2C, PPO) and policy in StablePPO.policy_aliases.keys() - PPO.policy_aliases.keys()
    return f" (did you mean sb3_stable_ppo.{policy}?)" if ours else ""


def find_class(path: str, what: str) -> type:
    """
    Import a class by its dotted path.

    :param path: such as ``sb3_stable_ppo.HealthCallback``
    :param what: what it is for, for the error
    :raises UsageError: if the module or the class does not exist
    """
    module_name, _, name = str(path).rpartition(".")
    if not module_name:
        raise UsageError(f"{what} {path!r} is not a dotted path, such as sb3_stable_ppo.TorchRolloutBuffer.")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"{what} {path!r} cannot be imported: {error}.") from error
    if not isinstance(found, type):
        raise UsageError(f"{what} {path!r} is not a class.")
    return found


def class_entries(specified: Any) -> list[tuple[str, Mapping[str, Any]]]:
    """
    Name and arguments of each class that ``callback``, ``env_wrapper`` or ``vec_env_wrapper`` names.

    :param specified: in any of rl_zoo3's forms: a name, a dict of one name and its arguments, a list of such, or None
    """
    entries = specified if isinstance(specified, list) else [] if specified is None else [specified]
    return [next(iter(entry.items())) if isinstance(entry, Mapping) else (entry, {}) for entry in entries]
