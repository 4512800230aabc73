"""
Figures over a run: a value at each step, from SB3's logs or the lines of ``health.jsonl``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sb3_stable_ppo.common.layer_names import is_critic_layer

STEP, RETURN, EVALUATION = "time/total_timesteps", "rollout/ep_rew_mean", "eval/mean_reward"
"""SB3's names of the step, the mean return of the last episodes, and the return of evaluations."""
EXPLAINED = "train/explained_variance"
"""SB3's name of how much of the returns' variance the critic explains."""
Floats = npt.NDArray[np.float64]


class Series(NamedTuple):
    """A figure over a run: environment steps, ascending, and a value at each."""

    steps: Floats
    values: Floats


def series(points: list[tuple[float, float]]) -> Series:
    """
    :param points: (step, value), in the order in which they were written; of one step the last counts
    """
    unique = dict(points)
    steps = np.array(sorted(unique), dtype=np.float64)
    return Series(steps, np.array([unique[step] for step in steps], dtype=np.float64))


def finite(figure: Series | None) -> Series | None:
    """
    :param figure: or None
    :return: where it is a number; None if it never is
    """
    if figure is None or not np.isfinite(figure.values).any():
        return None
    known = np.isfinite(figure.values)
    return Series(figure.steps[known], figure.values[known])


def health_series(health: list[dict[str, Any]], *path: str) -> Series:
    """
    One figure of the lines of ``health.jsonl``; lines without it are passed over, and null becomes NaN.

    :param health: the lines
    :param path: such as ``"layers", "conv1", "live"``
    """
    return series(list(_walk(health, path)))


def _walk(health: list[dict[str, Any]], path: tuple[str, ...]) -> Iterator[tuple[float, float]]:
    for line in health:
        found: Any = line
        for key in path:
            found = found.get(key, KeyError) if isinstance(found, dict) else KeyError
        if found is None or isinstance(found, (int, float)):
            yield line["step"], np.nan if found is None else float(found)


def active_alarms(health: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """
    Those that were raised and not cleared, by name.

    :param health: lines of ``health.jsonl``
    """
    active: dict[str, dict[str, Any]] = {}
    for line in health:
        for event in line.get("events") or ():
            if event.get("raised"):
                active[str(event.get("name"))] = event
            else:
                active.pop(str(event.get("name")), None)
    return active


def live_shares(health: list[dict[str, Any]]) -> dict[str, Series]:
    """
    By layer, the share of its units that are live.

    :param health: lines of ``health.jsonl``
    """
    names: dict[str, None] = {}
    for line in health:
        names.update(dict.fromkeys(line.get("layers") or {}))
    shares = {}
    for name in names:
        live, units = (health_series(health, "layers", name, key) for key in ("live", "units"))
        shares[name] = Series(live.steps, live.values / np.maximum(units.values, 1))
    return shares


def least_live_series(health: list[dict[str, Any]]) -> Series:
    """
    At each step the share of live units of the layer that has the smallest, among those the actions depend on.

    :param health: lines of ``health.jsonl``
    :return: empty where no such layer was measured
    """
    actor = [found for layer, found in live_shares(health).items() if not is_critic_layer(layer) and len(found.steps)]
    if not actor:
        return series([])
    steps = np.unique(np.concatenate([found.steps for found in actor]))
    return Series(steps, np.nanmin([np.interp(steps, *found) for found in actor], axis=0))


def least_live_share(health: list[dict[str, Any]]) -> float | None:
    """
    The share of live units at the end, of the layer that has the smallest, among those the actions depend on.

    :param health: lines of ``health.jsonl``
    :return: from 0 to 1; None if the last line has no such layer, as when the network is numerically broken
    """
    values = least_live_series(health[-1:]).values
    return float(values[-1]) if len(values) else None
