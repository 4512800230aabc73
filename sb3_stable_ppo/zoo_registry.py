"""
Our algorithms beside rl_zoo3's own, in the very dicts that all of its modules share.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER
from rl_zoo3.utils import ALGOS
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_stable_ppo.algorithms import StableMaskablePPO, StablePPO, StableRecurrentPPO

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {
    "stable_ppo": StablePPO,
    "stable_ppo_mask": StableMaskablePPO,
    "stable_ppo_lstm": StableRecurrentPPO,
}
FIXED = {"net_arch": "small", "activation_fn": "tanh", "enable_critic_lstm": True, "lstm_hidden_size": 16}
"""What rl_zoo3's samplers would make ``policy_kwargs`` of."""


def config_file(algo: str) -> Path:
    """
    The YAML file that this package ships for an algorithm.

    :param algo: such as ``stable_ppo``
    """
    packaged = Path(__file__).parent / "zoo_configs"
    folder = packaged if packaged.is_dir() else Path(__file__).parent.parent / "zoo_configs"
    return folder / f"{algo}.yml"


def register() -> None:
    """Put our algorithms beside the stock ones, in the very dicts that all of rl_zoo3's modules share."""
    ALGOS.update(ALGORITHMS)
    for name, stock in {"stable_ppo": "ppo", "stable_ppo_mask": "ppo", "stable_ppo_lstm": "ppo_lstm"}.items():
        HYPERPARAMS_SAMPLER[name] = partial(_sample_without_policy_kwargs, stock)
        HYPERPARAMS_CONVERTER[name] = partial(_convert_without_policy_kwargs, stock)


class _FixedNetwork:
    """A trial that suggests everything but the network, which the YAML file has (zoo#431: a trial replaces it)."""

    def __init__(self, trial: Any) -> None:
        self._trial = trial

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return choices[0] if name in FIXED else self._trial.suggest_categorical(name, choices)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trial, name)


def _sample_without_policy_kwargs(stock: str, trial: Any, *args: Any) -> dict[str, Any]:
    sampled = HYPERPARAMS_SAMPLER[stock](_FixedNetwork(trial), *args)  # type: ignore[arg-type]
    return {name: value for name, value in sampled.items() if name != "policy_kwargs"}


def _convert_without_policy_kwargs(stock: str, params: dict[str, Any]) -> dict[str, Any]:
    converted = HYPERPARAMS_CONVERTER[stock]({**FIXED, **params})
    return {name: value for name, value in converted.items() if name != "policy_kwargs"}
