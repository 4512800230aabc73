"""
rl_zoo3's own entries for PPO and its siblings, with our policies in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rl_zoo3
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_stable_ppo.policies.activations import as_activation
from sb3_stable_ppo.zoo.overrides import read_policy_kwargs

OF_VECTORS: dict[str, Any] = {"lean": "auto", "optimizer_kwargs": {"fused": True}}
"""How policies of vectors are run, as in our own entries (docs/fast_path.md)."""
HEALTH = "sb3_stable_ppo.HealthCallback"
STOCK_NAMES = {"stable_ppo": ("ppo",), "stable_ppo_mask": ("ppo_mask", "ppo"), "stable_ppo_lstm": ("ppo_lstm",)}
"""Of each of our algorithms, the files of rl_zoo3 that it can use; the first that exists is used."""


def stock_file(algo: str) -> Path:
    """
    The file of the installed rl_zoo3 that one of our algorithms falls back on.

    :param algo: such as ``stable_ppo``
    """
    folder = Path(rl_zoo3.__file__).parent / "hyperparams"
    files = [folder / f"{name}.yml" for name in STOCK_NAMES[algo]]
    return next((file for file in files if file.is_file()), files[-1])


def with_our_policy(entry: Mapping[str, Any], algorithm: type[BaseAlgorithm], source: str) -> dict[str, Any]:
    """
    An entry of rl_zoo3's as one of ours: the policy of ours for the same observations, for vectors as fast as it can
    be run, and HealthCallback. Numbers stay as they are, ``policy_kwargs`` too, but in words that YAML can hold.

    :param entry: of rl_zoo3's file for PPO or RecurrentPPO
    :param algorithm: one of ours
    :param source: where it comes from, for errors
    """
    changed = dict(entry)
    ours = f"Stable{str(entry.get('policy')).replace('Lstm', '')}"
    if ours in algorithm.policy_aliases:
        changed["policy"] = ours
    if "policy_kwargs" in entry:
        network = read_policy_kwargs(entry["policy_kwargs"], source)
        if "activation_fn" in network:
            network["activation_fn"] = as_activation(network["activation_fn"])
        changed["policy_kwargs"] = network
    of_vectors = changed.get("policy") in ("StableMlpPolicy", "StableMultiInputPolicy")
    if of_vectors and not entry.get("use_sde") and not issubclass(algorithm, RecurrentPPO):
        network = changed.get("policy_kwargs") or {}
        has_optimizer = "optimizer_class" in network or "optimizer_kwargs" in network
        changed["policy_kwargs"] = {**({"lean": "auto"} if has_optimizer else OF_VECTORS), **network}
    callbacks = entry.get("callback") or []
    changed["callback"] = [HEALTH, *(callbacks if isinstance(callbacks, list) else [callbacks])]
    return changed
