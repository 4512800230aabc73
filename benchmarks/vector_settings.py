"""
The settings that the suite compares on vectors, by name: env, whose numbers, and what the network is.

``Hopper-v5, zoo, layer leaky_relu`` is Hopper with rl_zoo3's numbers for it, StablePPO, and a network of ours with
LayerNorm and LeakyReLU.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import rl_zoo3
import yaml

from sb3_stable_ppo.zoo.overrides import read_policy_kwargs
from sb3_stable_ppo.zoo.schedules import read_schedules
from suite_settings import Settings

ENTRIES = {
    "CartPole-v1": "CartPole-v1",
    "Acrobot-v1": "Acrobot-v1",
    "LunarLander-v3": "LunarLander-v3",
    "Pendulum-v1": "Pendulum-v1",
    "Hopper-v5": "Hopper-v4",
    "HalfCheetah-v5": "HalfCheetah-v4",
    "Walker2d-v5": "Walker2d-v4",
    "Swimmer-v5": "Swimmer-v4",
}
"""Envs, and the names of rl_zoo3's entries for them."""
NUMBERS = ("sb3", "zoo")
"""SB3's defaults, or rl_zoo3's entry."""
STOCK, STOCK_POLICY = "stock", "StablePPO, MlpPolicy"
NORMS = ("layer", "none")
ACTIVATIONS = ("leaky_relu", "tanh", "silu", "elu")
GAINS = {"": 0.8, " gain 1": 1.0, " gain 1.4": 2**0.5}
FAST: dict[str, Any] = {"lean": "auto", "optimizer_kwargs": {"fused": True}}


def networks() -> Iterator[tuple[str, dict[str, Any]]]:
    """Candidates for the network of StableMlpPolicy, by name, and its options."""
    for norm, activation, (named, gain) in product(NORMS, ACTIVATIONS, GAINS.items()):
        yield f"{norm} {activation}{named}", {"norm": norm, "activation": activation, "init_gain": gain}
    for activation in ACTIVATIONS:
        of_all = {"norm": "layer", "activation": activation, "norm_input": "running"}
        yield f"layer {activation}, input", of_all
        yield f"layer after {activation}", {"norm": "layer", "norm_position": "after", "activation": activation}


@cache
def entries() -> dict[str, dict[str, Any]]:
    """rl_zoo3's, for PPO."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(
        (Path(rl_zoo3.__file__).parent / "hyperparams" / "ppo.yml").read_text()
    )
    return found


def of(env_id: str, numbers: str, network: dict[str, Any] | None, algorithm: str) -> Settings:
    """
    :param env_id: of one of ``ENTRIES``
    :param numbers: one of ``NUMBERS``
    :param network: options of StableMlpPolicy; None: SB3's MlpPolicy
    :param algorithm: ``PPO`` or ``StablePPO``
    """
    options = dict(entries()[ENTRIES[env_id]]) if numbers == "zoo" else {}
    for name in ("n_timesteps", "policy"):
        options.pop(name, None)
    normalized, n_envs = options.pop("normalize", False), options.pop("n_envs", 1)
    given = read_policy_kwargs(options.pop("policy_kwargs", {}), "rl_zoo3")
    schedules = read_schedules({name: value for name, value in options.items() if isinstance(value, str)})
    if network is not None:  # the zoo's widths and deviations stay, the layers are ours
        for name in ("activation_fn", "ortho_init"):
            given.pop(name, None)
        given = {**FAST, **given, **network}
    return Settings(
        env_id,
        algorithm,
        "MlpPolicy" if network is None else "StableMlpPolicy",
        "normalized" if normalized else "vector",
        n_envs,
        given,
        {**options, **schedules},
        bins=60,
    )


SETTINGS: dict[str, Settings] = {}
for _env_id, _numbers in product(ENTRIES, NUMBERS):
    SETTINGS[f"{_env_id}, {_numbers}, {STOCK}"] = of(_env_id, _numbers, None, "PPO")
    SETTINGS[f"{_env_id}, {_numbers}, {STOCK_POLICY}"] = of(_env_id, _numbers, None, "StablePPO")
    for _name, _network in networks():
        SETTINGS[f"{_env_id}, {_numbers}, {_name}"] = of(_env_id, _numbers, _network, "StablePPO")
