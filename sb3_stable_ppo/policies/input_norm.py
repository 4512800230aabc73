"""
Observations, normalised within the policy by the mean and the variance of all rollouts so far: each number of a vector,
each channel of an image.

SB3's ``VecNormalize`` does it for vectors in the env, so its statistics are a file of their own, which an evaluation
and whoever loads the model must not forget. Here they are buffers of the policy. They move once an update, before the
next rollout acts, so that a rollout and the update from it see the same numbers.
"""

from __future__ import annotations

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

from sb3_stable_ppo.fast.numpy_activations import Activation
from sb3_stable_ppo.fast.numpy_forms import NumpyLayer, Rows, shared
from sb3_stable_ppo.policies.running_norm import RunningNorm, pool_moments

INPUT_NORMS = ("none", "running")
NOTHING = "norm_input='running' normalises vectors and images (Box), and there is none in {}. Leave norm_input out."
CLIP = 10.0
"""Bound of a normalised observation, as VecNormalize's ``clip_obs``."""
LEAST_STD_OF_IMAGES = 0.02
"""Five of 255 grey levels. A channel that hardly varied so far, as of a dark first scene, is not blown up by more."""


class RunningInputNorm(RunningNorm):
    """
    ``(x - running_mean) / sqrt(running_var + eps)``, of a vector within plus and minus 10.

    :param num_features: width of a vector, or channels of an image
    :param eps: keeps what never varies from being divided by zero, as VecNormalize's ``epsilon``
    :param least_std: it is divided by no less; images are not bounded otherwise, as the convolution takes the norm up
    """

    running_mean: th.Tensor
    running_var: th.Tensor
    num_batches_tracked: th.Tensor
    rollouts: th.Tensor

    def __init__(self, num_features: int, eps: float = 1e-8, least_std: float = 0.0) -> None:
        super().__init__()
        self.eps, self.least_std = eps, least_std
        self.register_buffer("running_mean", th.zeros(num_features))
        self.register_buffer("running_var", th.ones(num_features))
        self.register_buffer("num_batches_tracked", th.zeros((), dtype=th.long))  # as torch's BatchNorm has it
        self.register_buffer("rollouts", th.ones((), dtype=th.long))  # the first is that of the calibration
        self._gathers(num_features)

    def move(self, scale: float = 1.0) -> None:
        """
        Take the gathered rollout into the statistics: every rollout so far counts the same.

        :param scale: factor of its share
        """
        self.rollouts.add_(1)
        moments = (self.running_mean, self.running_var, self.gathered_mean, self.gathered_var)
        pool_moments(*moments, weight=scale / self.rollouts)
        self.forget()

    def numpy_layer(self) -> NumpyLayer:
        """What it is in NumPy, for vectors; there is nothing to learn below it."""
        mean, var = shared(self.running_mean), shared(self.running_var)
        eps, least = np.float32(self.eps), np.float32(self.least_std**2)

        def normalise(rows: Rows) -> Rows:
            found = rows - mean
            found /= np.sqrt(np.maximum(var + eps, least))
            return np.clip(found, -CLIP, CLIP, out=found)

        return Activation(normalise, lambda rows, _: np.zeros_like(rows))

    @property
    def scale(self) -> th.Tensor:
        """What is multiplied with, ``1 / sqrt(running_var + eps)``, but at most ``1 / least_std``."""
        return th.rsqrt((self.running_var + self.eps).clamp(min=self.least_std**2))

    def forward(self, inputs: th.Tensor) -> th.Tensor:
        if inputs.dim() == 2:
            return ((inputs - self.running_mean) * self.scale).clamp(-CLIP, CLIP)
        of_channels = (1, -1, *[1] * (inputs.dim() - 2))
        normalised = (inputs.float() - self.running_mean.view(of_channels)) * self.scale.view(of_channels)
        return normalised.to(inputs.dtype)


class NormalizedFlattenExtractor(FlattenExtractor):
    """
    SB3's ``FlattenExtractor`` with a :class:`RunningInputNorm` behind it.

    :param observation_space: a Box
    :raises ValueError: for other observations, which have no mean
    """

    def __init__(self, observation_space: spaces.Space[object]) -> None:
        if not isinstance(observation_space, spaces.Box):
            raise ValueError(NOTHING.format(observation_space))
        super().__init__(observation_space)
        self.norm = RunningInputNorm(self.features_dim)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        normalised: th.Tensor = self.norm(super().forward(observations))
        return normalised


def flatten(space: spaces.Space[object], normalises: bool) -> nn.Module:
    """
    :param space: of one key of a Dict, no image
    :param normalises: whether its vector is normalised; what is no Box never is
    :return: what makes one vector of it
    """
    if normalises and isinstance(space, spaces.Box):
        return nn.Sequential(nn.Flatten(), RunningInputNorm(get_flattened_obs_dim(space)))
    return nn.Flatten()
