"""
The body of our networks: norms and activations by name, the convolutional body, BatchNorm calibration.

A *body* is a run of blocks, each Conv2d (or Linear), an activation and a norm. Where the norm stands is part
of the norm: ``batch`` comes after the activation (what our figures were measured with), ``layer`` before it
(where LayerNorm is best in the PPO-Atari study, https://openreview.net/forum?id=6CViR7tKj2).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_flattened_obs_dim, is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, MlpExtractor
from stable_baselines3.common.utils import get_device
from torch import nn

from sb3_stable_ppo.speed import FastPath, Speed

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "leaky_relu": nn.LeakyReLU,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}
NORMS = ("batch", "layer", "none")
NORM_POSITIONS = ("before", "after")
NATURE_CONVS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
"""Channels, kernel and stride of each convolution (Mnih et al., 2015)."""

BatchNorm = (nn.BatchNorm1d, nn.BatchNorm2d)


def one_of(value: Any, choices: Sequence[str], what: str) -> str:
    """
    Return ``value`` if it is one of ``choices``.

    :param value: what the user wrote
    :param choices: the words that are understood
    :param what: the option's name, for the error
    :raises ValueError: naming the option, the value and the choices
    """
    if value not in choices:
        raise ValueError(f"Unknown {what} {value!r}: choose one of {', '.join(choices)}.")
    return str(value)


def number_in(value: Any, low: float, high: float, what: str) -> float:
    """
    Return ``value`` as a number if it lies within bounds.

    :param value: what the user wrote
    :param low: the least value
    :param high: the largest value
    :param what: the option's name, for the error
    :raises ValueError: naming the option, the value and the bounds
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ValueError(f"{what} must be a number from {low:g} to {high:g}, not {value!r}.")
    return float(value)


@dataclass(frozen=True)
class Body:
    """
    The words that describe a network's body, as they stand in ``policy_kwargs``.

    :param norm: ``batch`` (plain BatchNorm), ``layer`` (GroupNorm(1), LayerNorm's form for images) or ``none``
    :param norm_position: ``before`` or ``after`` the activation; None: ``after`` for batch, ``before`` for layer
    :param activation: one of ``ACTIVATIONS``
    :param negative_slope: the slope below zero; only ``leaky_relu`` has one
    :param norm_momentum: share of the newest batch in BatchNorm's running statistics
    :raises ValueError: for an unknown word, listing the choices, or a number outside its range
    """

    norm: str = "layer"
    norm_position: str | None = None
    activation: str = "leaky_relu"
    negative_slope: float = 0.01
    norm_momentum: float = 0.1

    def __post_init__(self) -> None:
        one_of(self.norm, NORMS, "norm")
        one_of(self.activation, tuple(ACTIVATIONS), "activation")
        if self.norm_position is not None:
            one_of(self.norm_position, NORM_POSITIONS, "norm_position")
        number_in(self.negative_slope, 0.0, 1.0, "negative_slope")
        number_in(self.norm_momentum, 0.0, 1.0, "norm_momentum")

    @property
    def position(self) -> str:
        """Where the norm stands: the word given, or the norm's own place."""
        return self.norm_position or ("after" if self.norm == "batch" else "before")

    def activation_fn(self) -> nn.Module:
        """A new activation module."""
        if self.activation == "leaky_relu":
            return nn.LeakyReLU(self.negative_slope)
        return ACTIVATIONS[self.activation]()

    def block(self, layer: nn.Conv2d | nn.Linear) -> dict[str, nn.Module]:
        """
        The modules that follow ``layer``, by name and in order: ``act`` and, unless ``none``, ``norm``.

        :param layer: the convolution or linear layer that the block belongs to
        """
        blocks: dict[str, nn.Module] = {"act": self.activation_fn()}
        if self.norm == "none":
            return blocks
        norm = {"norm": self._norm_of(layer)}
        return {**norm, **blocks} if self.position == "before" else {**blocks, **norm}

    def _norm_of(self, layer: nn.Conv2d | nn.Linear) -> nn.Module:
        if isinstance(layer, nn.Conv2d):
            if self.norm == "batch":
                return nn.BatchNorm2d(layer.out_channels, momentum=self.norm_momentum)
            return nn.GroupNorm(1, layer.out_channels)
        if self.norm == "batch":
            return nn.BatchNorm1d(layer.out_features, momentum=self.norm_momentum)
        return nn.LayerNorm(layer.out_features)


def conv_output_size(size: int) -> int:
    """
    Side length after the three convolutions, without padding.

    :param size: side length of the image in pixels
    :return: side length of the last feature map; below 1 where the image is too small
    """
    for _, kernel, stride in NATURE_CONVS:
        size = (size - kernel) // stride + 1
    return size


class StableCNN(BaseFeaturesExtractor):
    """
    NatureCNN's three convolutions (32/64/64), each with an activation and a norm.

    :param observation_space: channels-first images, uint8 in [0, 255]
    :param features_dim: width of a linear layer behind the convolutions; None: the flattened last map itself
    :param normalized_image: the images are scaled already: no check of dtype and bounds
    :param speed: how the layers are run; None: as any module's
    :param body: the words of :class:`Body`
    :raises ValueError: for observations that are no image, an image below 36 pixels, or an unknown word
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        features_dim: int | None = 512,
        normalized_image: bool = False,
        speed: Speed | None = None,
        **body: Any,
    ) -> None:
        if not is_image_space(observation_space, normalized_image=normalized_image):
            raise ValueError(
                f"A Cnn policy needs images (uint8 in [0, 255], three dimensions), not {observation_space}. "
                "Use StableMlpPolicy for vectors and StableMultiInputPolicy for Dict observations; for images "
                "that are scaled already pass normalize_images=False."
            )
        assert isinstance(observation_space, spaces.Box)
        in_channels, height, width = observation_space.shape
        map_size = conv_output_size(height) * conv_output_size(width)
        if min(conv_output_size(height), conv_output_size(width)) < 1:
            raise ValueError(
                f"Images of {height}x{width} pixels are too small for convolutions 8/4, 4/2, 3/1: at least 36x36. "
                "Resize the observations, or give a features_extractor_class of your own."
            )
        n_flatten = NATURE_CONVS[-1][0] * map_size
        super().__init__(observation_space, features_dim or n_flatten)
        self.body = Body(**body)

        self.cnn = nn.Sequential()
        for index, (out_channels, kernel, stride) in enumerate(NATURE_CONVS, start=1):
            conv = nn.Conv2d(in_channels, out_channels, kernel, stride)
            self.cnn.add_module(f"conv{index}", conv)
            for name, module in self.body.block(conv).items():
                self.cnn.add_module(f"{name}{index}", module)
            in_channels = out_channels
        self.cnn.add_module("flatten", nn.Flatten())

        self.linear = nn.Sequential()
        if features_dim is not None:
            self.linear.add_module("fc", nn.Linear(n_flatten, features_dim))
            self.linear.add_module("act", self.body.activation_fn())
        self.speed = speed or Speed()
        self._fast_path = None if self.speed.is_plain else FastPath(self, self._plain, self._fast, self.speed)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """
        :param observations: floats, or, on the fast path, bytes that are yet to be divided by 255
        """
        return self._plain(observations) if self._fast_path is None else self._fast_path(observations)

    def _plain(self, observations: th.Tensor) -> th.Tensor:
        if observations.dtype == th.uint8:
            observations = self._as_computed(observations) / 255.0
        features: th.Tensor = self.linear(self.cnn(observations))
        return features

    def _fast(self, observations: th.Tensor) -> th.Tensor:
        """Bytes are exact in bfloat16 as they are; the division by 255 is the first convolution's."""
        if observations.dtype != th.uint8:
            return self._plain(observations)
        first, *others = self.cnn
        assert isinstance(first, nn.Conv2d)
        maps = nn.functional.conv2d(self._as_computed(observations), first.weight / 255.0, first.bias, first.stride[0])
        for module in others:
            maps = module(maps)
        features: th.Tensor = self.linear(maps)
        return features

    def _as_computed(self, observations: th.Tensor) -> th.Tensor:
        """Bytes as the first convolution takes them; in two steps, since torch's cast to another layout is slower."""
        device = observations.device.type
        dtype = th.get_autocast_dtype(device) if th.is_autocast_enabled(device) else th.float32
        return observations.to(dtype).contiguous(memory_format=self.speed.torch_memory_format)


class StableCombinedExtractor(BaseFeaturesExtractor):
    """
    For Dict observations: a :class:`StableCNN` for each image, the other keys flattened, all concatenated.

    :param observation_space: a Dict space, not nested
    :param cnn_output_dim: features of each image
    :param normalized_image: the images are scaled already
    :param speed: how the layers are run; None: as any module's
    :param body: the words of :class:`Body`
    :raises ValueError: for observations that are no Dict, or an unknown word
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        cnn_output_dim: int = 256,
        normalized_image: bool = False,
        speed: Speed | None = None,
        **body: Any,
    ) -> None:
        if not isinstance(observation_space, spaces.Dict):
            raise ValueError(
                f"A MultiInput policy needs Dict observations, not {observation_space}. "
                "Use StableCnnPolicy for images and StableMlpPolicy for vectors."
            )
        Body(**body)  # an unknown word is an error with no image too
        extractors: dict[str, nn.Module] = {}
        total = 0
        for key, space in observation_space.spaces.items():
            if is_image_space(space, normalized_image=normalized_image):
                extractors[key] = StableCNN(space, cnn_output_dim, normalized_image, speed, **body)
                total += cnn_output_dim
            else:
                extractors[key] = nn.Flatten()
                total += get_flattened_obs_dim(space)
        super().__init__(observation_space, total)
        self.extractors = nn.ModuleDict(extractors)

    def forward(self, observations: dict[str, th.Tensor]) -> th.Tensor:
        return th.cat([extractor(observations[key]) for key, extractor in self.extractors.items()], dim=1)


class StableMlpExtractor(MlpExtractor):
    """
    SB3's ``MlpExtractor`` with our activation and, unless ``none``, a norm in each hidden layer.

    :param feature_dim: width of the features
    :param net_arch: hidden layers, in SB3's form
    :param body: norm and activation
    :param device: where the networks live
    :param speed: how the layers are run; None: as any module's
    """

    def __init__(
        self,
        feature_dim: int,
        net_arch: list[int] | dict[str, list[int]],
        body: Body,
        device: th.device | str = "auto",
        speed: Speed | None = None,
    ) -> None:
        # Only its Linear layers and widths are kept; SB3 calls activation_fn() and asks for no more of it.
        super().__init__(feature_dim, net_arch, body.activation_fn, device)  # type: ignore[arg-type]
        self.policy_net = self._hidden_layers(self.policy_net, body).to(get_device(device))
        self.value_net = self._hidden_layers(self.value_net, body).to(get_device(device))
        self._fast_actor = self._fast_critic = None
        if speed is not None and not speed.is_plain:
            actor, critic = self.policy_net, self.value_net
            if len(actor):
                self._fast_actor = FastPath(actor, super().forward_actor, super().forward_actor, speed)
            if len(critic):
                self._fast_critic = FastPath(critic, super().forward_critic, super().forward_critic, speed)

    def forward_actor(self, features: th.Tensor) -> th.Tensor:
        return super().forward_actor(features) if self._fast_actor is None else self._fast_actor(features)

    def forward_critic(self, features: th.Tensor) -> th.Tensor:
        return super().forward_critic(features) if self._fast_critic is None else self._fast_critic(features)

    @staticmethod
    def _hidden_layers(net: nn.Sequential, body: Body) -> nn.Sequential:
        layers = nn.Sequential()
        linears = [module for module in net if isinstance(module, nn.Linear)]
        for index, linear in enumerate(linears, start=1):
            layers.add_module(f"fc{index}", linear)
            for name, module in body.block(linear).items():
                layers.add_module(f"{name}{index}", module)
        return layers


def batch_norms(module: nn.Module) -> tuple[nn.Module, ...]:
    """The BatchNorm layers within ``module``."""
    return tuple(child for child in module.modules() if isinstance(child, BatchNorm))


def _take_in(norm: nn.Module, args: tuple[th.Tensor, ...]) -> None:
    """Forward pre-hook: the running statistics become those of all batches so far, the coming one included."""
    assert isinstance(norm, BatchNorm)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    batch = args[0].detach().float()
    dims = [dim for dim in range(batch.dim()) if dim != 1]
    norm.num_batches_tracked.add_(1)
    weight = 1.0 / norm.num_batches_tracked
    deviation = batch.mean(dims) - norm.running_mean
    pooled = (1 - weight) * norm.running_var + weight * batch.var(dims, correction=0)
    # with weight 1, the first batch, nothing is left of the mean 0 and variance 1 that a BatchNorm is born with
    norm.running_var.copy_(pooled + weight * (1 - weight) * deviation**2)
    norm.running_mean.add_(weight * deviation)


@contextmanager
def calibrating(norms: Sequence[nn.Module]) -> Iterator[None]:
    """
    Within this context each BatchNorm takes a batch into its statistics before it normalises that batch; all batches
    count the same, as if they were one. No random number is drawn, and it works in eval mode.

    :param norms: the layers to calibrate
    """
    handles = [norm.register_forward_pre_hook(_take_in) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def untracked(norm: nn.Module) -> bool:
    """Whether a BatchNorm has seen no batch yet: its statistics are still mean 0, variance 1."""
    assert isinstance(norm, BatchNorm)
    return norm.num_batches_tracked is not None and int(norm.num_batches_tracked) == 0
