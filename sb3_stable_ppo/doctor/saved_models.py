"""
Loading any model of SB3, sb3-contrib or ours from its zip, which does not say of which algorithm it is.
"""

from __future__ import annotations

import inspect
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sb3_contrib
import stable_baselines3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.save_util import load_from_zip_file

from sb3_stable_ppo import algorithms
from sb3_stable_ppo.common.checks import unknown
from sb3_stable_ppo.common.errors import UsageError, described
from sb3_stable_ppo.doctor.untrusted_zip import model_file

OF_THE_CALLER = {"self", "policy", "env", "device", "verbose", "_init_setup_model", "args", "kwargs"}
"""Arguments that tell nothing of an algorithm, or are not kept."""


def known_algorithms() -> dict[str, type[BaseAlgorithm]]:
    """All algorithms by name; of two whose models look alike, the first is taken."""
    found = [
        value
        for module in (stable_baselines3, sb3_contrib, algorithms)
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, BaseAlgorithm)
    ]
    return {cls.__name__: cls for cls in found if cls.policy_aliases}


def algorithm_of(data: Mapping[str, Any]) -> type[BaseAlgorithm] | None:
    """
    Among the algorithms whose policies are akin to the model's, the one of whose arguments the model lacks the fewest:
    A2C, PPO and TRPO have the same policies, but only PPO's models have all of PPO's arguments. (DDPG's models have
    TD3's and are taken for those, whose special case they are.)

    :param data: what SB3 saves of a model beside its weights
    :return: None if there is no such algorithm
    """
    policy = data.get("policy_class")
    if not inspect.isclass(policy):
        return None

    def kinship(cls: type[BaseAlgorithm]) -> int:
        bases = {base for alias in cls.policy_aliases.values() for base in alias.__mro__}
        return max((len(base.__mro__) for base in bases & set(policy.__mro__)), default=0)

    def fit(cls: type[BaseAlgorithm]) -> tuple[int, ...]:
        arguments = _arguments_of(cls)
        return -len(arguments - data.keys()), kinship(cls), len(arguments), -len(cls.__mro__)

    akin = [cls for cls in known_algorithms().values() if kinship(cls) > len(BasePolicy.__mro__)]
    return max(akin, key=fit, default=None)


def _arguments_of(cls: type[BaseAlgorithm]) -> set[str]:
    """The arguments of an algorithm, but for those that all algorithms have."""
    common = (BaseAlgorithm, OnPolicyAlgorithm, OffPolicyAlgorithm, *BaseAlgorithm.__mro__)
    own = [base for base in cls.__mro__ if base not in common and "__init__" in vars(base)]
    names = {name for base in own for name in inspect.signature(base.__init__).parameters}  # type: ignore[misc]
    return {name for name in names if name not in OF_THE_CALLER and not name.startswith("_")}


def load_model(path: str | Path, algo: str | None = None) -> BaseAlgorithm:
    """
    Load a model on the CPU. **This unpickles what is in the zip**: only for files from those you trust.

    :param path: the zip
    :param algo: name of the algorithm; None: it is found out
    :raises UsageError: if it cannot be loaded, saying why
    """
    path = model_file(path)
    known = known_algorithms()
    if algo is not None and algo not in known:
        raise UsageError(unknown("algorithm", algo, known))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data, _, _ = load_from_zip_file(path, device="cpu")
        cls = known[algo] if algo else algorithm_of(data or {})
        if cls is None:
            raise UsageError(
                f"{path}: which algorithm it is of cannot be told; name it with --algo, one of {', '.join(known)}. (A "
                "policy class of your own has to be importable.)"
            )
        return cls.load(path, device="cpu")
    except UsageError:
        raise
    except (zipfile.BadZipFile, EOFError, KeyError) as error:
        raise UsageError(f"{path}: no whole zip of an SB3 model ({type(error).__name__}: {error}).") from error
    except Exception as error:  # whatever a pickle may raise
        raise UsageError(f"{path} cannot be loaded: {described(error)}") from error
