"""
A rollout buffer that copies an observation twice instead of five times: the same samples in the same order as SB3's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.type_aliases import RolloutBufferSamples

from sb3_stable_ppo.common.checks import one_of
from sb3_stable_ppo.common.lazy import public
from sb3_stable_ppo.fast.config import MEMORY_FORMATS


@public
class TorchRolloutBuffer(RolloutBuffer):
    """
    SB3's ``RolloutBuffer`` for large observations: ``PPO(…, rollout_buffer_class=TorchRolloutBuffer)``.

    SB3 allocates and clears the observations anew for each rollout, flattens them into a copy, and copies each
    minibatch twice. Here they lie in one block, env by env, for good: flattening is a view, and a minibatch is gathered
    by one ``index_select`` from a tensor that shares the block's memory. On a GPU a rollout is uploaded once. All
    arrays have the names and shapes that SB3's have; ``get`` draws the same permutation.

    Relies on SB3's ``get`` to flatten by ``swap_and_flatten`` and to draw samples by ``_get_samples``.

    :param args: as of ``RolloutBuffer``
    :param memory_format: ``channels_last`` keeps images as policies of that memory format take them: they are laid out
        once when they come, not once in each epoch. Their shape and values are the same.
    :param kwargs: as of ``RolloutBuffer``
    :raises ValueError: for Dict observations, or ``channels_last`` without images
    """

    def __init__(self, *args: Any, memory_format: str = "contiguous", **kwargs: Any) -> None:
        self._channels_last = one_of(memory_format, MEMORY_FORMATS, "memory_format") == "channels_last"
        self._block: np.ndarray | None = None
        self._tensors: tuple[th.Tensor, ...] = ()
        super().__init__(*args, **kwargs)

    def reset(self) -> None:
        if isinstance(self.observation_space, spaces.Dict):
            raise ValueError("TorchRolloutBuffer takes no Dict observations: leave rollout_buffer_class unset.")
        if self._channels_last and len(self.obs_shape) != 3:
            raise ValueError(
                f"memory_format: channels_last is for images, channels first, not {self.observation_space}: "
                "leave memory_format unset."
            )
        if self._block is None:
            obs_shape = (*self.obs_shape[1:], self.obs_shape[0]) if self._channels_last else self.obs_shape
            self._block = np.zeros((self.n_envs, self.buffer_size, *obs_shape), dtype=self.observation_space.dtype)
        # As RolloutBuffer.reset, but for the observations: each is written before it is read
        shape = (self.buffer_size, self.n_envs)
        block = np.moveaxis(self._block, -1, 2) if self._channels_last else self._block
        self.observations = block.swapaxes(0, 1)
        self.actions = np.zeros((*shape, self.action_dim), dtype=self.action_space.dtype)
        for name in ("rewards", "returns", "episode_starts", "values", "log_probs", "advantages"):
            setattr(self, name, np.zeros(shape, dtype=np.float32))
        self.generator_ready = False
        self._tensors = ()
        self.pos, self.full = 0, False

    def add(self, obs: np.ndarray, *args: Any, **kwargs: Any) -> None:
        if self._channels_last:
            # NumPy copies to another layout three times faster channel by channel than at once
            laid_out = self.observations[self.pos]
            for channel in range(obs.shape[1]):
                laid_out[:, channel] = obs[:, channel]
            obs = laid_out
        super().add(obs, *args, **kwargs)

    def _get_samples(self, batch_inds: np.ndarray, env: Any = None) -> RolloutBufferSamples:  # noqa: ARG002
        if not self._tensors:  # all are flat by now
            observations = np.moveaxis(self.observations, 1, -1) if self._channels_last else self.observations
            arrays = (
                observations,
                self.actions.astype(np.float32, copy=False),
                *(array.reshape(-1) for array in (self.values, self.log_probs, self.advantages, self.returns)),
            )
            self._tensors = tuple(th.from_numpy(array).to(self.device) for array in arrays)
        index = th.from_numpy(batch_inds).to(self.device)
        samples = RolloutBufferSamples(*(tensor.index_select(0, index) for tensor in self._tensors))
        if self._channels_last:
            return samples._replace(observations=samples.observations.movedim(-1, 1))
        return samples
