"""
Some observations of what an algorithm has collected, evenly spread, without drawing random numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.buffers import ReplayBuffer, RolloutBuffer


def strided(buffer: RolloutBuffer, rows: int) -> tuple[Any, Any]:
    """
    Steps and envs of some rows of a full rollout, evenly spread over both.

    :param buffer: before ``train()``, which flattens its arrays in place
    :param rows: how many; fewer if the rollout is shorter
    :return: two index arrays
    """
    size = buffer.buffer_size * buffer.n_envs
    chosen = np.linspace(0, size - 1, min(rows, size)).astype(int)
    return np.divmod(chosen, buffer.n_envs)


def strided_actions(buffer: RolloutBuffer, rows: int) -> Any:
    """
    The actions taken on :func:`strided_observations`.

    :param buffer: before ``train()``
    :param rows: how many
    """
    steps, envs = strided(buffer, rows)
    return buffer.actions[steps, envs]


def strided_masks(buffer: RolloutBuffer, rows: int) -> Any:
    """
    The action masks of :func:`strided_observations`; None of a buffer that keeps none.

    :param buffer: before ``train()``
    :param rows: how many
    """
    return buffer.action_masks[strided(buffer, rows)] if hasattr(buffer, "action_masks") else None


def strided_observations(buffer: RolloutBuffer, rows: int) -> Any:
    """
    Some observations of a full rollout, evenly spread over steps and envs.

    :param buffer: before ``train()``
    :param rows: how many; fewer if the rollout is shorter
    :return: an array, or for Dict observations one per key, shape (rows, ...)
    """
    return _taken(buffer.observations, *strided(buffer, rows))


def recent_observations(buffer: ReplayBuffer, rows: int) -> Any:
    """
    Some of the latest observations of a replay buffer: of the last ten times as many, evenly spread.

    :param buffer: of any off-policy algorithm
    :param rows: how many; fewer if there are not so many yet
    :return: as :func:`strided_observations`
    """
    filled = buffer.buffer_size if buffer.full else buffer.pos
    size = min(filled, -(-10 * rows // buffer.n_envs)) * buffer.n_envs
    chosen = np.linspace(0, size - 1, min(rows, size)).astype(int) if size else np.zeros(0, dtype=int)
    ago, envs = np.divmod(chosen, buffer.n_envs)
    return _taken(buffer.observations, (buffer.pos - 1 - ago) % buffer.buffer_size, envs)


def rows_of(observations: Any) -> int:
    """How many observations there are."""
    return len(next(iter(observations.values())) if isinstance(observations, dict) else observations)


def concat_batches(batches: list[Any]) -> Any:
    """
    Batches of observations or masks as one.

    :param batches: arrays, or dicts of them; or each None, as the whole then is
    """
    if batches[0] is None:
        return None
    if isinstance(batches[0], dict):
        return {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}
    return np.concatenate(batches)


def _taken(observations: Any, steps: Any, envs: Any) -> Any:
    if isinstance(observations, dict):
        return {key: array[steps, envs] for key, array in observations.items()}
    return observations[steps, envs]
