"""
Loading any model of SB3, sb3-contrib or ours. Its zip does not name its algorithm: the run's ``run.json`` does, and
failing that the policy and the arguments in the zip tell.
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
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.save_util import load_from_zip_file

from sb3_stable_ppo import algorithms
from sb3_stable_ppo.common.checks import did_you_mean
from sb3_stable_ppo.common.errors import UsageError, described
from sb3_stable_ppo.doctor.untrusted_zip import model_file
from sb3_stable_ppo.runs.folder import RunReader

OF_THE_CALLER = {"self", "policy", "env", "device", "verbose", "stats_window_size", "args", "kwargs"}
"""Arguments that tell nothing of an algorithm, or that its zip does not keep."""


def known_algorithms() -> dict[str, type[BaseAlgorithm]]:
    """All algorithms by name; of two whose models look alike, the first is taken."""
    found = [
        getattr(module, name)  # not vars(): ours are imported when they are first asked for
        for module in (stable_baselines3, sb3_contrib, algorithms)
        for name in dir(module)
        if not name.startswith("__")
    ]
    found = [value for value in found if inspect.isclass(value) and issubclass(value, BaseAlgorithm)]
    return {cls.__name__: cls for cls in found if cls.policy_aliases}


def algorithm_by_its_run(path: Path, data: Mapping[str, Any]) -> type[BaseAlgorithm] | None:
    """
    The algorithm that the ``run.json`` beside a zip names, as rl_zoo3 calls it (``ppo``, ``stable_ppo_mask``).

    :param path: of the zip
    :param data: what SB3 saves of a model beside its weights
    :return: None if there is no ``run.json``, or the zip is not of that algorithm: it may lie there by chance
    """
    try:
        name = RunReader(path.parent).facts.get("algo")
    except (OSError, ValueError):
        return None
    cls = _by_zoo_name().get(str(name))
    policy = data.get("policy_class")
    if cls is None or not inspect.isclass(policy):
        return None
    has_its_policy = any(issubclass(policy, alias) for alias in cls.policy_aliases.values())
    return cls if has_its_policy and not _arguments_of(cls) - data.keys() else None


def _by_zoo_name() -> dict[str, type[BaseAlgorithm]]:
    """Class names in snake case, but for those of sb3-contrib and ours that rl_zoo3 and ``train`` call otherwise."""
    known = known_algorithms()
    names = {"RecurrentPPO": "ppo_lstm", "StablePPO": "stable_ppo"}
    names |= {"StableMaskablePPO": "stable_ppo_mask", "StableRecurrentPPO": "stable_ppo_lstm"}
    return {names.get(name, name.lower()): cls for name, cls in known.items()}


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

    def fit(cls: type[BaseAlgorithm]) -> tuple[int, ...]:
        arguments = _arguments_of(cls)
        return -len(arguments - data.keys()), _kinship(cls, policy), len(arguments), -len(cls.__mro__)

    akin = [cls for cls in known_algorithms().values() if _kinship(cls, policy) > len(BasePolicy.__mro__)]
    return max(akin, key=fit, default=None)


def _kinship(cls: type[BaseAlgorithm], policy: type) -> int:
    """How much of a policy's ancestry the policies of an algorithm share: the length of the longest common part."""
    bases = {base for alias in cls.policy_aliases.values() for base in alias.__mro__}
    return max((len(base.__mro__) for base in bases & set(policy.__mro__)), default=0)


def _arguments_of(cls: type[BaseAlgorithm]) -> set[str]:
    """The arguments of an algorithm, without those that all algorithms have."""
    common = (BaseAlgorithm, OnPolicyAlgorithm, OffPolicyAlgorithm, *BaseAlgorithm.__mro__)
    own = [base for base in cls.__mro__ if base not in common and "__init__" in vars(base)]
    names = {name for base in own for name in inspect.signature(base.__init__).parameters}  # type: ignore[misc]
    return {name for name in names if name not in OF_THE_CALLER and not name.startswith("_")}


def _without_her(data: Mapping[str, Any]) -> dict[str, Any]:
    """Hindsight's buffer cannot be made without an env. Nobody learns from it here, so it is the usual one."""
    cls = data.get("replay_buffer_class")
    is_her = isinstance(cls, type) and issubclass(cls, HerReplayBuffer)
    return {"replay_buffer_class": None, "replay_buffer_kwargs": {}} if is_her else {}


def load_model(path: str | Path, algo: str | None = None) -> BaseAlgorithm:
    """
    Load a model on the CPU. **This unpickles what is in the zip**: only for files from those you trust.

    :param path: the zip
    :param algo: the algorithm by its class (``PPO``) or by rl_zoo3's name (``ppo``); None: it is found out
    :raises UsageError: if it cannot be loaded, saying why
    """
    path = model_file(path)
    known = known_algorithms()
    names = {**_by_zoo_name(), **known}
    if algo is not None and algo not in names:
        raise UsageError(
            f"Unknown algorithm {algo!r}{did_you_mean(algo, names)}: choose one of {', '.join(known)}, or by rl_zoo3's "
            f"name one of {', '.join(_by_zoo_name())}."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data, _, _ = load_from_zip_file(path, device="cpu")
        data = data or {}
        found = algorithm_by_its_run(path, data) or algorithm_of(data)
        cls = names[algo] if algo else found
        if algo and found and _kinship(names[algo], data["policy_class"]) <= len(BasePolicy.__mro__):
            raise UsageError(
                f"{path} is a model of {found.__name__}, not of {names[algo].__name__}: leave --algo out, the zip "
                "tells its algorithm."
            )
        if cls is None:
            raise UsageError(
                f"{path}: its algorithm cannot be told; name it with --algo, one of {', '.join(known)}. (A "
                "policy class of your own has to be importable.)"
            )
        return cls.load(path, device="cpu", custom_objects=_without_her(data))
    except UsageError:
        raise
    except (zipfile.BadZipFile, EOFError, KeyError) as error:
        raise UsageError(f"{path}: no whole zip of an SB3 model ({type(error).__name__}: {error}).") from error
    except Exception as error:  # whatever a pickle may raise
        raise UsageError(f"{path} cannot be loaded: {described(error)}") from error
