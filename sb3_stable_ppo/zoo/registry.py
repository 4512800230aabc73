"""
Our algorithms beside rl_zoo3's own, in the very dicts that all of its modules share.
"""

from __future__ import annotations

from pathlib import Path

from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER
from rl_zoo3.utils import ALGOS
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_stable_ppo.algorithms import StableMaskablePPO, StablePPO, StableRecurrentPPO

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {
    "stable_ppo": StablePPO,
    "stable_ppo_mask": StableMaskablePPO,
    "stable_ppo_lstm": StableRecurrentPPO,
}


def config_file(algo: str) -> Path:
    """
    The YAML file that this package ships for an algorithm.

    :param algo: such as ``stable_ppo``
    """
    package = Path(__file__).parent.parent
    folder = package / "zoo_configs"
    if not folder.is_dir():  # a checkout, where they stand beside the package
        folder = package.parent / "zoo_configs"
    return folder / f"{algo}.yml"


def register() -> None:
    """Put our algorithms beside the stock ones, in the very dicts that all of rl_zoo3's modules share."""
    ALGOS.update(ALGORITHMS)
    for name, stock in {"stable_ppo": "ppo", "stable_ppo_mask": "ppo", "stable_ppo_lstm": "ppo_lstm"}.items():
        HYPERPARAMS_SAMPLER[name] = HYPERPARAMS_SAMPLER[stock]
        HYPERPARAMS_CONVERTER[name] = HYPERPARAMS_CONVERTER[stock]
