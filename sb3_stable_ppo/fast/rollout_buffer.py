"""
Rollout buffers that copy an observation twice instead of five times: the same samples in the same order as SB3's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.type_aliases import DictRolloutBufferSamples, RolloutBufferSamples

from sb3_stable_ppo.common.checks import one_of
from sb3_stable_ppo.common.lazy import public
from sb3_stable_ppo.fast.config import MEMORY_FORMATS
from sb3_stable_ppo.fast.observation_block import ObservationBlock, upload

OTHERS = ("rewards", "returns", "episode_starts", "values", "log_probs", "advantages")
"""The arrays with one number for each step and env, beside observations and actions."""


@public
class TorchRolloutBuffer(RolloutBuffer):
    """
    SB3's ``RolloutBuffer`` for large observations: ``PPO(…, rollout_buffer_class=TorchRolloutBuffer)``.

    SB3 allocates and clears the observations anew for each rollout, flattens them into a copy, and copies each
    minibatch twice. Here they lie in one block, env by env, for good: flattening is a view, and a minibatch is gathered
    by one ``index_select`` from a tensor that shares the block's memory. On a GPU a rollout is uploaded once. All
    arrays have the names and shapes that SB3's have; ``get`` draws the same permutation.

    For PPO and A2C: MaskablePPO's buffer holds action masks too, and RecurrentPPO's holds sequences.

    Relies on SB3's ``get`` to flatten by ``swap_and_flatten`` and to draw samples by ``_get_samples``.

    :param args: as of ``RolloutBuffer``
    :param memory_format: ``channels_last`` keeps images as policies of that memory format take them: they are laid out
        once when they come, not once in each epoch. Their shape and values are the same.
    :param kwargs: as of ``RolloutBuffer``
    :raises ValueError: for Dict observations, or ``channels_last`` without images
    """

    def __init__(self, *args: Any, memory_format: str = "contiguous", **kwargs: Any) -> None:
        self._channels_last = one_of(memory_format, MEMORY_FORMATS, "memory_format") == "channels_last"
        self._block: ObservationBlock | None = None
        self._tensors: tuple[th.Tensor, ...] = ()
        super().__init__(*args, **kwargs)

    def reset(self) -> None:
        if isinstance(self.observation_space, spaces.Dict):
            raise ValueError("TorchRolloutBuffer takes no Dict observations: use TorchDictRolloutBuffer.")
        if self._channels_last and len(self.obs_shape) != 3:
            raise ValueError(NO_IMAGES.format(self.observation_space))
        if self._block is None:
            dtype, laid_out = self.observation_space.dtype, self._channels_last
            self._block = ObservationBlock(self.obs_shape, dtype, self.buffer_size, self.n_envs, laid_out, self.device)
        self.observations = self._block.by_step()
        self._tensors = ()
        _clear(self)

    def add(self, obs: np.ndarray, *args: Any, **kwargs: Any) -> None:
        assert self._block is not None
        super().add(self._block.write(self.pos, obs), *args, **kwargs)

    def _get_samples(self, batch_inds: np.ndarray, env: Any = None) -> RolloutBufferSamples:  # noqa: ARG002
        assert self._block is not None
        if not self._tensors:  # all are flat by now
            self._tensors = (upload(self._block.flat(), self.device), *_numbers(self))
        index = upload(batch_inds, self.device)
        observations, *numbers = (tensor.index_select(0, index) for tensor in self._tensors)
        return RolloutBufferSamples(self._block.as_images(observations), *numbers)


@public
class TorchDictRolloutBuffer(DictRolloutBuffer):
    """
    :class:`TorchRolloutBuffer` for Dict observations: a block for each key.

    Relies on SB3's ``get`` to flatten by ``swap_and_flatten`` and to draw samples by ``_get_samples``.

    :param args: as of ``DictRolloutBuffer``
    :param memory_format: ``channels_last`` keeps the images among the observations as policies of that memory format
        take them
    :param kwargs: as of ``DictRolloutBuffer``
    :raises ValueError: for observations that are no Dict, or ``channels_last`` without images
    """

    def __init__(self, *args: Any, memory_format: str = "contiguous", **kwargs: Any) -> None:
        self._channels_last = one_of(memory_format, MEMORY_FORMATS, "memory_format") == "channels_last"
        self._blocks: dict[str, ObservationBlock] = {}
        self._flat: dict[str, th.Tensor] = {}
        self._tensors: tuple[th.Tensor, ...] = ()
        space = kwargs["observation_space"] if "observation_space" in kwargs else args[1]
        if not isinstance(space, spaces.Dict):
            raise ValueError(f"TorchDictRolloutBuffer is for Dict observations, not {space}: use TorchRolloutBuffer.")
        super().__init__(*args, **kwargs)

    def reset(self) -> None:
        images = [key for key, shape in self.obs_shape.items() if len(shape) == 3] if self._channels_last else []
        if self._channels_last and not images:
            raise ValueError(NO_IMAGES.format(self.observation_space))
        if not self._blocks:
            for key, shape in self.obs_shape.items():
                dtype, laid_out = self.observation_space[key].dtype, key in images
                self._blocks[key] = ObservationBlock(shape, dtype, self.buffer_size, self.n_envs, laid_out, self.device)
        self.observations = {key: block.by_step() for key, block in self._blocks.items()}
        self._tensors, self._flat = (), {}
        _clear(self)

    def add(self, obs: dict[str, np.ndarray], *args: Any, **kwargs: Any) -> None:  # type: ignore[override]  # SB3's too
        written = {key: block.write(self.pos, obs[key]) for key, block in self._blocks.items()}
        super().add(written, *args, **kwargs)

    def _get_samples(self, batch_inds: np.ndarray, env: Any = None) -> DictRolloutBufferSamples:  # type: ignore[override]  # noqa: ARG002
        if not self._tensors:  # all are flat by now
            self._flat = {key: upload(block.flat(), self.device) for key, block in self._blocks.items()}
            self._tensors = _numbers(self)
        index = upload(batch_inds, self.device)
        observations = {
            key: self._blocks[key].as_images(tensor.index_select(0, index)) for key, tensor in self._flat.items()
        }
        return DictRolloutBufferSamples(observations, *(tensor.index_select(0, index) for tensor in self._tensors))


NO_IMAGES = "memory_format: channels_last is for images, channels first, not {}: leave memory_format unset."


def _clear(buffer: RolloutBuffer) -> None:
    """As ``RolloutBuffer.reset``, but for the observations: each is written before it is read."""
    shape = (buffer.buffer_size, buffer.n_envs)
    buffer.actions = np.zeros((*shape, buffer.action_dim), dtype=buffer.action_space.dtype)
    for name in OTHERS:
        setattr(buffer, name, np.zeros(shape, dtype=np.float32))
    buffer.generator_ready = False
    buffer.pos, buffer.full = 0, False


def _numbers(buffer: RolloutBuffer) -> tuple[th.Tensor, ...]:
    """Actions and what else a minibatch holds beside its observations, in the order of ``RolloutBufferSamples``."""
    arrays = (
        buffer.actions.astype(np.float32, copy=False),
        *(array.reshape(-1) for array in (buffer.values, buffer.log_probs, buffer.advantages, buffer.returns)),
    )
    return tuple(upload(array, buffer.device) for array in arrays)
