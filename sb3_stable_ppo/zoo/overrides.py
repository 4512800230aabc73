"""
What ``--hyperparams`` changes in an entry. rl_zoo3 replaces ``policy_kwargs``; here they and ``guards`` are merged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from sb3_stable_ppo.common.errors import UsageError, described

SYNONYMS = {"activation": "activation_fn", "activation_fn": "activation"}
"""Our policies' name of an argument, and SB3's: what is given by one replaces what was given by the other."""


def with_overrides(entry: Mapping[str, Any], overrides: Mapping[str, Any], source: str) -> dict[str, Any]:
    """
    An entry with what the command line says.

    >>> with_overrides({"gamma": 0.9, "policy_kwargs": {"norm": "layer"}}, {"policy_kwargs": {"init_gain": 1}}, "x.yml")
    {'gamma': 0.9, 'policy_kwargs': {'norm': 'layer', 'init_gain': 1}}

    :param entry: of a file
    :param overrides: of ``--hyperparams``
    :param source: where the entry comes from, for the error
    :return: the entry; ``policy_kwargs`` and ``guards`` are merged, all else is replaced
    :raises UsageError: if ``policy_kwargs`` are neither a mapping nor a string that makes one
    """
    merged = {**entry, **overrides}
    if entry.get("policy_kwargs") and isinstance(overrides.get("policy_kwargs"), Mapping):
        known = read_policy_kwargs(entry["policy_kwargs"], source)
        merged["policy_kwargs"] = merged_policy_kwargs(known, overrides["policy_kwargs"])
    if isinstance(entry.get("guards"), Mapping) and isinstance(overrides.get("guards"), Mapping):
        merged["guards"] = {**entry["guards"], **overrides["guards"]}
    return merged


def merged_policy_kwargs(known: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """
    :param known: ``policy_kwargs``
    :param changes: what replaces some of them
    :return: both
    """
    replaced = {SYNONYMS[name] for name in changes if name in SYNONYMS}
    return {**{name: value for name, value in known.items() if name not in replaced}, **changes}


def read_policy_kwargs(given: Any, source: str) -> dict[str, Any]:
    """
    ``policy_kwargs`` in either of rl_zoo3's forms.

    >>> read_policy_kwargs("dict(log_std_init=-2, activation_fn=nn.ReLU)", "ppo.yml, Hopper-v4")
    {'log_std_init': -2, 'activation_fn': <class 'torch.nn.modules.activation.ReLU'>}

    :param given: a mapping, or a string of Python, which rl_zoo3 evaluates too
    :param source: where they come from, for the error
    :raises UsageError: if they are neither
    """
    found = given
    if isinstance(given, str):
        try:
            found = eval(given, {"nn": nn})
        except Exception as error:
            raise UsageError(f"{source}: policy_kwargs {given!r} cannot be evaluated: {described(error)}.") from error
    if not isinstance(found, Mapping):
        raise UsageError(f"{source}: policy_kwargs must be a mapping, not {given!r}.")
    return dict(found)
