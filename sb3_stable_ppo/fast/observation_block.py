"""
One block of memory for all observations of a rollout.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch as th


class ObservationBlock:
    """
    Observations of all steps and envs, env by env, in memory that is kept from one rollout to the next.

    :param shape: of one observation
    :param dtype: NumPy's, of one number
    :param buffer_size: steps of a rollout
    :param n_envs: envs
    :param channels_last: images, channels first, lie in memory as policies of that memory format take them
    :param device: where minibatches are wanted; what goes to a GPU lies in page-locked memory, from which it is copied
        without a wait
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: Any, buffer_size: int, n_envs: int, channels_last: bool, device: th.device
    ) -> None:
        self._channels_last = channels_last
        laid_out = (*shape[1:], shape[0]) if channels_last else shape
        self._memory = _zeros((n_envs, buffer_size, *laid_out), dtype, device)

    def by_step(self) -> np.ndarray:
        """A view of the block, shape (steps, envs, …), channels first."""
        block = np.moveaxis(self._memory, -1, 2) if self._channels_last else self._memory
        return block.swapaxes(0, 1)

    def write(self, step: int, observations: np.ndarray) -> np.ndarray:
        """
        Write the observations of a step, if they have to be laid out.

        :param step: its number in the rollout
        :param observations: shape (envs, …), channels first
        :return: what SB3's ``add`` can copy quickly
        """
        if not self._channels_last:
            return observations
        # NumPy copies to another layout three times faster channel by channel than at once
        laid_out: np.ndarray = self.by_step()[step]
        for channel in range(observations.shape[1]):
            laid_out[:, channel] = observations[:, channel]
        return laid_out

    def flat(self) -> np.ndarray:
        """A view of the block, shape (envs * steps, …), as it lies."""
        return self._memory.reshape(-1, *self._memory.shape[2:])

    def as_images(self, rows: th.Tensor) -> th.Tensor:
        """
        Rows of :meth:`flat`, channels first.

        :param rows: as they lie
        """
        return rows.movedim(-1, 1) if self._channels_last else rows


def _zeros(shape: tuple[int, ...], dtype: Any, device: th.device) -> np.ndarray:
    array = np.zeros(shape, dtype)
    if device.type != "cuda":
        return array
    pinned: np.ndarray = th.from_numpy(array).pin_memory().numpy()
    return pinned


def upload(array: np.ndarray, device: th.device) -> th.Tensor:
    """
    Without a wait for what the device has yet to do; the driver keeps a copy of what is not page-locked.

    :param array: any
    :param device: where it is wanted
    :return: a tensor there; on the CPU it shares the array's memory
    """
    return th.from_numpy(array).to(device, non_blocking=True)
