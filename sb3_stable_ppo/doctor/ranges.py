"""
The figures of a model's network beside those of healthy runs. Nothing here judges: verdicts rest on the thresholds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from stable_baselines3.common.policies import BasePolicy

from sb3_stable_ppo.common.layer_names import ACTOR, CONV, layer_kind
from sb3_stable_ppo.health.figures import Figures
from sb3_stable_ppo.health.healthy_ranges import (
    IMAGES,
    RANKED_ROWS,
    STOCK,
    VECTORS,
    has_ranges,
    network_of,
    ranges_of,
)

COUNTS = {"live": "live_fraction", "srank": "srank_fraction"}
"""Figures of a layer that are counted in units, and the names of their ranges, which are shares."""
SHARES = ("fault_fraction", "dormant_fraction")
OF_POLICY = ("policy_variance", "action_balance", "entropy_share")


def compare(policy: BasePolicy, figures: Figures) -> Figures:
    """
    :param policy: whose figures they are
    :param figures: of a thorough look
    :return: ``observations``, ``network`` and ``runs``: whose ranges they are. In ``layers``, ``features`` and
        ``policy``, by figure: the range of ``healthy`` runs of the same network, that of SB3's own (``stock``), and
        ``outside``, where the value lies: ``below`` the first, ``above`` it, or None. Empty for policies of other
        algorithms than PPO and its kin
    """
    if not has_ranges(policy):
        return {}
    observations = IMAGES if any(layer_kind(name) == CONV for name in figures["layers"]) else VECTORS
    network = network_of(policy, observations, CONV if observations == IMAGES else ACTOR)
    stock, own = ranges_of(observations, STOCK), ranges_of(observations, network)
    is_ranked = figures["features"].get("rows", 0) >= RANKED_ROWS
    layers = {}
    for name, layer in figures["layers"].items():
        kind = layer_kind(name)
        healthy = ranges_of(observations, network_of(policy, observations, kind)).get(kind, {})
        if healthy.get("fault") != layer["fault"]:  # another activation than that of the runs
            healthy = {}
        layers[name] = _of_layer(layer, healthy, stock.get(kind, {}), is_ranked)
    return {
        "observations": observations,
        "network": network,
        "runs": {"healthy": own.get("runs", {}), "stock": stock.get("runs", {})},
        "layers": layers,
        "features": _of_features(figures["features"], layers, own, stock) if is_ranked else {},
        "policy": {
            name: _compared(figures["policy"][name], own.get("policy", {}).get(name), stock.get("policy", {}).get(name))
            for name in OF_POLICY
            if name in figures["policy"]
        },
    }


def _of_layer(layer: Figures, own: Figures, stock: Figures, is_ranked: bool) -> Figures:
    found = {}
    for name, share in COUNTS.items():
        if name in layer and (is_ranked or name != "srank"):
            ranges = [_whole(each.get(share), layer["units"]) for each in (own, stock)]
            found[name] = _compared(layer[name], *ranges)
    for name in SHARES:
        of_stock = stock if name != "fault_fraction" or stock.get("fault") == layer["fault"] else {}
        ranges = [_whole(each.get(name), 100) for each in (own, of_stock)]
        shares = [None if each is None else [end / 100 for end in each] for each in ranges]
        found[name] = _compared(round(layer[name], 2), *shares)
    return found


def _of_features(features: Figures, layers: Figures, own: Figures, stock: Figures) -> Figures:
    """A rank of all features is compared with those of features that are as wide, of a layer that was measured."""
    is_measured = layers[features["layer"]]["live"]["healthy"] is not None
    found = [each.get("features", {}) for each in (own if is_measured else {}, stock)]
    ranges = [each.get("effective_rank") if each.get("width") == features["width"] else None for each in found]
    return {"effective_rank": _compared(features["effective_rank"], *ranges)}


def _whole(shares: Sequence[float] | None, of: int) -> list[int] | None:
    """As it is printed: in whole units or percent, so that no value is outside by what nobody sees."""
    return None if shares is None else [math.floor(shares[0] * of + 0.01), math.ceil(shares[1] * of - 0.01)]


def _compared(value: float, healthy: Sequence[float] | None, stock: Sequence[float] | None) -> Figures:
    low, high = healthy or (-math.inf, math.inf)
    return {
        "healthy": healthy,
        "stock": stock,
        "outside": "below" if value < low else "above" if value > high else None,
    }
