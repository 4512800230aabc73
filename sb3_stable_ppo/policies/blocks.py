"""
The blocks that our networks consist of: a Conv2d or Linear layer, its activation and its norm, each chosen by name.

Each norm has its own place by default. ``batch`` comes after the activation, as our figures were measured. ``layer``
comes before it, where LayerNorm does best in the PPO-Atari study (https://openreview.net/forum?id=6CViR7tKj2).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch import nn

from sb3_stable_ppo.common.checks import check_options, number, one_of
from sb3_stable_ppo.policies.activations import ACTIVATIONS, ActivationFn, as_activation
from sb3_stable_ppo.policies.crelu import CReLU
from sb3_stable_ppo.policies.running_batch_norm import RunningBatchNorm1d, RunningBatchNorm2d

NORMS = ("batch", "layer", "none")
NORM_POSITIONS = ("before", "after")
NORM_STATISTICS = ("running", "batch")
MOMENTUM = {"running": 0.05, "batch": 0.1}
"""By ``norm_statistics``; torch's own default for ``batch``."""


@dataclass(frozen=True)
class BlockConfig:
    """
    The options of a network's blocks, as they stand in ``policy_kwargs``.

    :param norm: ``batch`` (BatchNorm), ``layer`` (GroupNorm(1), LayerNorm's form for images) or ``none``
    :param norm_position: ``before`` or ``after`` the activation; None: ``after`` for batch, ``before`` for layer
    :param activation: a word of ``ACTIVATIONS``, or a module class, as SB3's ``activation_fn``; kept as the word where
        there is one
    :param negative_slope: the slope below zero; only ``leaky_relu`` has one
    :param norm_momentum: share of the newest observations in BatchNorm's running statistics: of a rollout (``running``)
        or a minibatch (``batch``); None: 0.05 or 0.1
    :param norm_statistics: what BatchNorm normalises an update by: ``running`` statistics, as a rollout
        (:class:`RunningBatchNorm`, which needs one of our policies around it), or those of each minibatch: ``batch``
    :raises ValueError: for an unknown word, listing the choices, or a number outside its range
    """

    norm: str = "layer"
    norm_position: str | None = None
    activation: str | ActivationFn = "leaky_relu"
    negative_slope: float = 0.01
    norm_momentum: float | None = None
    norm_statistics: str = "batch"

    @classmethod
    def of(cls, owner: str, options: Mapping[str, Any], known: Iterable[str]) -> BlockConfig:
        """
        From the options that an extractor was given beside its own.

        :param owner: the extractor's name
        :param options: by name
        :param known: the names of its own options
        :raises ValueError: for a name that neither has
        """
        names = {*known, *(field.name for field in fields(cls))}
        check_options(options, names, owner, "features_extractor_kwargs")
        return cls(**options)

    def __post_init__(self) -> None:
        one_of(self.norm, NORMS, "norm")
        object.__setattr__(self, "activation", as_activation(self.activation))
        if self.norm_position is not None:
            one_of(self.norm_position, NORM_POSITIONS, "norm_position")
        one_of(self.norm_statistics, NORM_STATISTICS, "norm_statistics")
        for name in ("negative_slope", "norm_momentum"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, number(getattr(self, name), name, high=1.0))

    @property
    def position(self) -> str:
        """Where the norm stands: ``norm_position`` if given, else the norm's own place."""
        return self.norm_position or ("after" if self.norm == "batch" else "before")

    @property
    def outputs_per_unit(self) -> int:
        """How many channels or features come out of the activation for each that goes in: 2 with ``crelu``, else 1."""
        return CReLU.outputs_per_unit if self.activation == "crelu" else 1

    def activation_fn(self) -> nn.Module:
        """A new activation module."""
        if self.activation == "leaky_relu":
            return nn.LeakyReLU(self.negative_slope)
        return ACTIVATIONS[self.activation]() if isinstance(self.activation, str) else self.activation()

    @property
    def momentum(self) -> float:
        """BatchNorm's: ``norm_momentum`` if given, else the default of ``norm_statistics``."""
        return MOMENTUM[self.norm_statistics] if self.norm_momentum is None else self.norm_momentum

    @property
    def activation_class(self) -> type[nn.Module]:
        """The class of the activation modules."""
        return type(self.activation_fn())

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
        is_conv = isinstance(layer, nn.Conv2d)
        units = layer.out_channels if isinstance(layer, nn.Conv2d) else layer.out_features
        if self.position == "after":
            units *= self.outputs_per_unit
        if self.norm == "layer":
            return nn.GroupNorm(1, units) if is_conv else nn.LayerNorm(units)
        if self.norm_statistics == "running":
            return (RunningBatchNorm2d if is_conv else RunningBatchNorm1d)(units, self.momentum)
        return (nn.BatchNorm2d if is_conv else nn.BatchNorm1d)(units, momentum=self.momentum)
