"""
Settings that make steps far larger than usual: the likely cause where a network has died.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_stable_ppo.schedules.learning_rate import counting_schedule

FAR = 3.0
"""This many times the usual value is far from it. SB3's defaults are up to 2.5 times what rl_zoo3 has for Pong."""
SIZES_OF_STEPS = {"learning_rate": "learning rate", "n_epochs": "number of epochs", "clip_range": "clip range"}
ZOO_NAMES = {"RecurrentPPO": "ppo_lstm", "MaskablePPO": "ppo"}
"""Of algorithms whose file rl_zoo3 does not call by the class in small letters."""


def unusual_settings(model: BaseAlgorithm) -> Iterator[tuple[str, str]]:
    """
    Evidence and remedy where a setting is at least ``FAR`` times the larger of two usual values: that of rl_zoo3's
    entry for the env, where there is one, and the algorithm's default.

    :param model: any model; its env tells which entry is meant
    """
    env, entry = _zoo_entry(model)
    told, usual_values = [], []
    for name, words in SIZES_OF_STEPS.items():
        value, of_zoo = _first_value(getattr(model, name, None)), _first_value(entry.get(name))
        of_class, default = _default(type(model), name)
        usual = [each for each in (of_zoo, default) if each]
        if value is None or not usual or not value >= FAR * max(usual):
            continue
        sources = [f"rl_zoo3 has {of_zoo:g} for {env}"] if of_zoo else []
        sources += [f"{of_class}'s default is {default:g}"] if default else []
        told.append(f"The {words} is {value:g}; {', '.join(sources)}.")
        usual_values.append(f"{words} {of_zoo or default:g}")
    if told:
        yield (
            " ".join(told),
            "Steps as large as this kill units and flatten policies. If the network has died, this is the likely "
            f"cause: start again with {', '.join(usual_values)}.",
        )


def _first_value(setting: Any) -> float | None:
    """A setting's value at the start of training, whether a number, a schedule, or ``lin_`` and a number."""
    counting = counting_schedule(setting)
    if counting is not None:
        return float(counting.initial)
    try:
        return float(setting(1.0) if callable(setting) else str(setting).removeprefix("lin_"))
    except (TypeError, ValueError, RuntimeError):
        return None


def _default(algorithm: type[BaseAlgorithm], name: str) -> tuple[str, float | None]:
    """The default of an argument, and the class that has it: SB3's own before one that is derived from it."""
    for cls in reversed(algorithm.__mro__):
        if "__init__" in vars(cls):
            parameter = inspect.signature(cls.__init__).parameters.get(name)  # type: ignore[misc]
            if parameter is not None and isinstance(parameter.default, (int, float)):
                return cls.__name__, float(parameter.default)
    return algorithm.__name__, None


def _zoo_entry(model: BaseAlgorithm) -> tuple[str, Mapping[str, Any]]:
    """The env's id, and the entry that rl_zoo3 has for it: the env's own, or that of all Atari games. Else empty."""
    env, zoo = model.get_env(), find_spec("rl_zoo3")
    if env is None or zoo is None or zoo.origin is None:
        return "", {}
    try:
        spec = env.get_attr("spec", 0)[0]
    except (AttributeError, NotImplementedError, OSError, EOFError):  # an env that is closed
        return "", {}
    names = [ZOO_NAMES.get(cls.__name__, cls.__name__.lower()) for cls in type(model).__mro__]
    folder = Path(zoo.origin).parent / "hyperparams"
    file = next((path for name in names if (path := folder / f"{name}.yml").is_file()), None)
    if spec is None or file is None:
        return "", {}
    import yaml  # here, since it comes with rl_zoo3

    entries = yaml.safe_load(file.read_text(encoding="utf-8"))
    shared = "atari" if str(spec.entry_point).startswith("ale_py") else None
    return spec.id, entries.get(spec.id) or entries.get(shared) or {}
