"""
What the health figures of healthy runs were, by norm. ``healthy_ranges.json`` beside this file has the numbers, written
by ``benchmarks/healthy_ranges.py`` from the runs on record.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.torch_layers import FlattenExtractor, NatureCNN

from sb3_stable_ppo.common.layer_names import CONV
from sb3_stable_ppo.policies.mixin import StablePolicyMixin

FILE = "healthy_ranges.json"
STOCK = "stock"
"""SB3's own network, beside the norms of ours."""
IMAGES, VECTORS = "images", "vectors"
RANKED_ROWS = 512
"""Observations that ranks were measured on, where a rollout had so many: on fewer of them, ranks are lower."""


@cache
def healthy_ranges() -> dict[str, Any]:
    """
    ``percentiles``, ``of`` (which part of the runs), and ``ranges``: by kind of observation (``images``, ``vectors``)
    and network (a norm, or ``stock``) whose runs they are (``runs``) and [low, high] of each figure.
    """
    found: dict[str, Any] = json.loads(files(__package__).joinpath(FILE).read_text(encoding="utf-8"))
    return found


def ranges_of(observations: str, network: str | None) -> dict[str, Any]:
    """
    :param observations: ``images`` or ``vectors``
    :param network: a norm or ``stock``
    :return: empty where no healthy run is on record
    """
    found: dict[str, Any] = healthy_ranges()["ranges"].get(observations, {}).get(network, {})
    return found


def has_ranges(policy: BasePolicy) -> bool:
    """Whether networks of its kind were measured: PPO's, A2C's, TRPO's and MaskablePPO's, not DQN's, SAC's or LSTMs."""
    is_recurrent = isinstance(policy, RecurrentActorCriticPolicy)
    return isinstance(policy, (ActorCriticPolicy, MaskableActorCriticPolicy)) and not is_recurrent


def network_of(policy: BasePolicy, observations: str, kind: str) -> str | None:
    """
    Whose runs a layer is to be compared with.

    :param policy: any of SB3 or sb3-contrib
    :param observations: ``images`` or ``vectors``
    :param kind: of the layer, see :func:`~sb3_stable_ppo.common.layer_names.layer_kind`
    :return: a norm; ``stock``; or None for a network that nobody has measured, as one with a user's own extractor
    """
    if not has_ranges(policy):
        return None
    if isinstance(policy, StablePolicyMixin):
        norm = policy.block_config.norm
        measured = "none" if observations == IMAGES else norm  # of hidden layers, in the runs on record
        return norm if kind == CONV or policy.norm_hidden == measured else None
    is_stock = type(policy).__module__.partition(".")[0] in ("stable_baselines3", "sb3_contrib")
    extractor: Any = getattr(policy, "features_extractor", None)
    return STOCK if is_stock and type(extractor) in (FlattenExtractor, NatureCNN) else None
