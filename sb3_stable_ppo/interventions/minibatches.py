"""
Another minibatch than the one that ``train()`` has drawn, without a random number of the run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm


def another_minibatch(model: Any, generator: np.random.Generator) -> tuple[tuple[Any, ...], th.Tensor | None]:
    """
    As many rows as ``train()`` takes at once, drawn evenly with replacement; for RecurrentPPO rows that follow each
    other.

    Relies on the arrays of SB3's buffers, and on ``_get_samples`` of the rollout buffers of SB3 and sb3-contrib, whose
    arrays ``get`` has flattened when the first minibatch comes.

    :param model: within ``train()``
    :param generator: of one's own
    :return: the arguments of ``policy.get_distribution``, off-policy those of the Q-network or the critic; and of
        padded rows a mask, True where there is data
    """
    if isinstance(model, OffPolicyAlgorithm):
        return _replayed(model, generator), None
    buffer = model.rollout_buffer
    size = buffer.buffer_size * buffer.n_envs
    rows = min(getattr(model, "batch_size", None) or size, size)
    draw = type(buffer)._get_samples  # past whoever listens to what train() draws from this very buffer
    if hasattr(model.policy, "lstm_actor"):
        indices = (generator.integers(size) + np.arange(rows)) % size
        env_changes = (np.arange(size) % buffer.buffer_size == 0).astype(np.float32).reshape(-1, 1)
        samples = draw(buffer, indices, env_changes)
        return (samples.observations, samples.lstm_states.pi, samples.episode_starts), samples.mask > 1e-8
    samples = draw(buffer, generator.integers(size, size=rows))
    masks = (samples.action_masks,) if hasattr(samples, "action_masks") else ()
    return (samples.observations, *masks), None


def _replayed(model: Any, generator: np.random.Generator) -> tuple[Any, ...]:
    buffer = model.replay_buffer
    steps = generator.integers(buffer.buffer_size if buffer.full else buffer.pos, size=model.batch_size)
    envs = generator.integers(buffer.n_envs, size=model.batch_size)
    stored = buffer.observations
    taken = {k: v[steps, envs] for k, v in stored.items()} if isinstance(stored, dict) else stored[steps, envs]
    scaled = buffer._normalize_obs(taken, model.get_vec_normalize_env())
    tensors = (
        {key: buffer.to_torch(value) for key, value in scaled.items()}
        if isinstance(scaled, dict)
        else buffer.to_torch(scaled)
    )
    if not hasattr(model.policy, "critic"):
        return (tensors,)
    return tensors, buffer.to_torch(buffer.actions[steps, envs].astype(np.float32, copy=False))
