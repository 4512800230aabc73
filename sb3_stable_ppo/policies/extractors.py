"""
The layers of our policies: convolutions for images, hidden layers behind them, with norms and activations.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_flattened_obs_dim, is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, MlpExtractor
from stable_baselines3.common.utils import get_device
from torch import nn

from sb3_stable_ppo.common.checks import one_of, whole_number
from sb3_stable_ppo.fast.config import FastPathConfig
from sb3_stable_ppo.fast.execution import FastModule
from sb3_stable_ppo.policies.blocks import BlockConfig
from sb3_stable_ppo.policies.input_norm import INPUT_NORMS, LEAST_STD_OF_IMAGES, NOTHING, RunningInputNorm, flatten

NATURE_CONVS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
"""Channels, kernel and stride of each convolution (Mnih et al., 2015)."""
NORM_OPTIONS = ("norm_hidden", "norm_input")
"""What a user may give beside the options of the blocks."""


def conv_output_size(size: int) -> int:
    """
    Side length after the three convolutions, without padding.

    :param size: side length of the image in pixels
    :return: side length of the last feature map; below 1 where the image is too small
    """
    for _, kernel, stride in NATURE_CONVS:
        size = (size - kernel) // stride + 1
    return size


class StableCNN(FastModule, BaseFeaturesExtractor):
    """
    NatureCNN's three convolutions (32/64/64), each with an activation and a norm. On the fast path ``forward`` takes
    bytes too, which are yet to be divided by 255.

    :param observation_space: channels-first images, uint8 in [0, 255]
    :param features_dim: units of a linear layer behind the convolutions; None: the flattened last map itself. With the
        activation ``crelu`` there are twice as many features
    :param normalized_image: the images are scaled already: no check of dtype and bounds
    :param fast_path_config: how the layers run; None: as any module's
    :param norm_hidden: the norm of the linear layer: ``none``, ``layer`` or ``batch``
    :param norm_input: ``running``: each channel is normalised (:class:`RunningInputNorm`); ``none``: divided by 255
    :param block_options: the options of :class:`BlockConfig`
    :raises ValueError: for observations that are no image, an image below 36 pixels, or an unknown word
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        features_dim: int | None = 512,
        normalized_image: bool = False,
        fast_path_config: FastPathConfig | None = None,
        norm_hidden: str = "none",
        norm_input: str = "none",
        **block_options: Any,
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
        block_config = BlockConfig.of(type(self).__name__, block_options, ("features_dim", *NORM_OPTIONS))
        features_dim = None if features_dim is None else whole_number(features_dim, "features_dim", 1)
        outputs_per_unit = block_config.outputs_per_unit
        n_flatten = NATURE_CONVS[-1][0] * map_size * outputs_per_unit
        super().__init__(observation_space, n_flatten if features_dim is None else features_dim * outputs_per_unit)
        self.block_config = block_config

        normalises = one_of(norm_input, INPUT_NORMS, "norm_input") == "running"
        self.input_norm = RunningInputNorm(in_channels, least_std=LEAST_STD_OF_IMAGES) if normalises else None
        self.cnn = nn.Sequential()
        for index, (out_channels, kernel, stride) in enumerate(NATURE_CONVS, start=1):
            conv = nn.Conv2d(in_channels, out_channels, kernel, stride)
            self.cnn.add_module(f"conv{index}", conv)
            for name, module in self.block_config.block(conv).items():
                self.cnn.add_module(f"{name}{index}", module)
            in_channels = out_channels * outputs_per_unit
        self.cnn.add_module("flatten", nn.Flatten())

        self.linear = nn.Sequential()
        if features_dim is not None:
            linear = nn.Linear(n_flatten, features_dim)
            self.linear.add_module("fc", linear)
            for name, module in replace(self.block_config, norm=norm_hidden).block(linear).items():
                self.linear.add_module(name, module)
        self.fast_path_config = fast_path_config or FastPathConfig()
        self.use_fast_path(self.fast_path_config)

    def run_layers(self, inputs: th.Tensor) -> th.Tensor:
        if inputs.dtype == th.uint8:
            inputs = self._as_computed(inputs) / 255.0
        if self.input_norm is not None:
            inputs = self.input_norm(inputs)
        features: th.Tensor = self.linear(self.cnn(inputs))
        return features

    def run_fused_layers(self, inputs: th.Tensor) -> th.Tensor:
        """
        Bytes are exact in bfloat16 as they are; the first convolution's weights are divided by 255 instead, and take up
        the normalisation too.
        """
        if inputs.dtype != th.uint8:
            return self.run_layers(inputs)
        first, *others = self.cnn
        assert isinstance(first, nn.Conv2d)
        weight, bias = first.weight, first.bias
        if self.input_norm is not None:
            weight = weight * self.input_norm.scale.view(1, -1, 1, 1)
            shift = (weight * self.input_norm.running_mean.view(1, -1, 1, 1)).sum((1, 2, 3))
            bias = -shift if bias is None else bias - shift
        maps = nn.functional.conv2d(self._as_computed(inputs), weight / 255.0, bias, first.stride[0])
        for module in others:
            maps = module(maps)
        features: th.Tensor = self.linear(maps)
        return features

    def _as_computed(self, images: th.Tensor) -> th.Tensor:
        """Bytes as the first convolution takes them; in two steps, since torch's cast to another layout is slower."""
        device = images.device.type
        dtype = th.get_autocast_dtype(device) if th.is_autocast_enabled(device) else th.float32
        return images.to(dtype).contiguous(memory_format=self.fast_path_config.torch_memory_format)


class StableCombinedExtractor(BaseFeaturesExtractor):
    """
    For Dict observations: a :class:`StableCNN` for each image, the other keys flattened, all concatenated.

    :param observation_space: a Dict space, not nested
    :param cnn_output_dim: units of each image's linear layer, and its features; with ``crelu`` twice as many features
    :param normalized_image: the images are scaled already
    :param fast_path_config: how the layers run; None: as any module's
    :param norm_hidden: the norm of each image's linear layer: ``none``, ``layer`` or ``batch``
    :param norm_input: ``running``: vectors and images are normalised (:class:`RunningInputNorm`); ``none``: as they are
    :param block_options: the options of :class:`BlockConfig`
    :raises ValueError: for observations that are no Dict, an unknown word, or ``running`` without a Box
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        cnn_output_dim: int = 256,
        normalized_image: bool = False,
        fast_path_config: FastPathConfig | None = None,
        norm_hidden: str = "none",
        norm_input: str = "none",
        **block_options: Any,
    ) -> None:
        if not isinstance(observation_space, spaces.Dict):
            raise ValueError(
                f"A MultiInput policy needs Dict observations, not {observation_space}. "
                "Use StableCnnPolicy for images and StableMlpPolicy for vectors."
            )
        # an unknown word is an error with no image too
        BlockConfig.of(type(self).__name__, block_options, ("cnn_output_dim", *NORM_OPTIONS))
        BlockConfig(norm_hidden)
        normalises = one_of(norm_input, INPUT_NORMS, "norm_input") == "running"
        if normalises and not any(isinstance(space, spaces.Box) for space in observation_space.values()):
            raise ValueError(NOTHING.format(observation_space))
        extractors: dict[str, nn.Module] = {}
        total = 0
        for key, space in observation_space.spaces.items():
            if is_image_space(space, normalized_image=normalized_image):
                options = {"norm_hidden": norm_hidden, "norm_input": norm_input, **block_options}
                cnn = StableCNN(space, cnn_output_dim, normalized_image, fast_path_config, **options)
                extractors[key] = cnn
                total += cnn.features_dim
            else:
                extractors[key] = flatten(space, normalises)
                total += get_flattened_obs_dim(space)
        super().__init__(observation_space, total)
        self.extractors = nn.ModuleDict(extractors)

    def forward(self, observations: dict[str, th.Tensor]) -> th.Tensor:
        return th.cat([extractor(observations[key]) for key, extractor in self.extractors.items()], dim=1)


class HiddenLayers(FastModule, nn.Sequential):
    """Linear layers, each with an activation and a norm, as an ``nn.Sequential`` that can run on the fast path."""

    def run_layers(self, inputs: th.Tensor) -> th.Tensor:
        for layer in self:
            inputs = layer(inputs)
        return inputs


class StableMlpExtractor(MlpExtractor):
    """
    SB3's ``MlpExtractor`` with our activation and, unless ``none``, a norm in each hidden layer.

    :param feature_dim: width of the features
    :param net_arch: hidden layers, in SB3's form
    :param block_config: norm and activation
    :param device: where the networks live
    :param fast_path_config: how the layers run; None: as any module's
    """

    def __init__(
        self,
        feature_dim: int,
        net_arch: list[int] | dict[str, list[int]],
        block_config: BlockConfig,
        device: th.device | str = "auto",
        fast_path_config: FastPathConfig | None = None,
    ) -> None:
        # Only its Linear layers and widths are kept; SB3 calls activation_fn() and asks for no more of it.
        super().__init__(feature_dim, net_arch, block_config.activation_fn, device)  # type: ignore[arg-type]
        config = fast_path_config or FastPathConfig()
        self.policy_net = _hidden_layers(self.policy_net, block_config, config).to(get_device(device))
        self.value_net = _hidden_layers(self.value_net, block_config, config).to(get_device(device))
        self.latent_dim_pi *= block_config.outputs_per_unit if len(self.policy_net) else 1
        self.latent_dim_vf *= block_config.outputs_per_unit if len(self.value_net) else 1


def _hidden_layers(net: nn.Sequential, block_config: BlockConfig, config: FastPathConfig) -> HiddenLayers:
    """The Linear layers of SB3's network, each with its activation and norm, and as wide as what comes before it."""
    layers = HiddenLayers()
    linears = [module for module in net if isinstance(module, nn.Linear)]
    for index, given in enumerate(linears, start=1):
        linear = given
        if index > 1 and block_config.outputs_per_unit > 1:
            linear = nn.Linear(given.in_features * block_config.outputs_per_unit, given.out_features)
        layers.add_module(f"fc{index}", linear)
        for name, module in block_config.block(linear).items():
            layers.add_module(f"{name}{index}", module)
    if linears:  # without layers there is nothing to run faster
        layers.use_fast_path(config)
    return layers
