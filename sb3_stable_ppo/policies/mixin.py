"""
What makes a policy a Stable policy: norms, activation and init by name, and the fast path.

SB3 re-initialises every extractor in ``ActorCriticPolicy._build`` (gain sqrt 2) and puts a 64x64 tanh MLP behind
each extractor that is not exactly NatureCNN. :class:`StablePolicyMixin` applies its own init after ``_build`` and
sets ``net_arch`` itself; all else is SB3's.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, replace
from typing import Any, ClassVar

import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from sb3_stable_ppo.common.checks import check_options, number, one_of
from sb3_stable_ppo.common.keywords import keywords_of
from sb3_stable_ppo.fast.compiling import is_traced
from sb3_stable_ppo.fast.config import FastPathConfig
from sb3_stable_ppo.fast.threads import single_threaded_inference
from sb3_stable_ppo.policies.activations import ActivationFn, chosen_activation
from sb3_stable_ppo.policies.actor_critic import ActorCritic
from sb3_stable_ppo.policies.blocks import NORMS, BlockConfig
from sb3_stable_ppo.policies.compile_trial import TriesCompiling
from sb3_stable_ppo.policies.cuda_graphs import ReplaysGraphs
from sb3_stable_ppo.policies.extractors import StableCNN, StableCombinedExtractor, StableMlpExtractor
from sb3_stable_ppo.policies.input_norm import INPUT_NORMS, NormalizedFlattenExtractor, RunningInputNorm
from sb3_stable_ppo.policies.lean import LeanActing, LeanActor, one_of_lean
from sb3_stable_ppo.policies.net_arch import NetArch, checked_net_arch
from sb3_stable_ppo.policies.one_region import CompilesOneRegion
from sb3_stable_ppo.policies.statistics import BatchNormStatistics
from sb3_stable_ppo.policies.value_norm import VALUE_NORMS, NormalizedValue
from sb3_stable_ppo.policies.value_norm_learning import warn_if_untold


class StablePolicyMixin(TriesCompiling, BatchNormStatistics, LeanActing, ReplaysGraphs, CompilesOneRegion, ActorCritic):
    """
    Norms, LeakyReLU and an init that stays, for any actor-critic policy of SB3.

    All options can be plain words and numbers, so that ``policy_kwargs`` can be written in YAML.

    :param observation_space: the observation space
    :param action_space: the action space
    :param lr_schedule: learning rate as a function of the remaining progress
    :param norm: ``batch``, ``layer`` or ``none``; None: the policy's default
    :param norm_hidden: the same of the linear layer behind convolutions and of all hidden layers; None: ``none`` in
        ``StablePongPolicy`` and ``StableCnnPolicy``; else ``norm`` in the hidden layers, and ``none`` in the linear
        layer of each image of a Dict
    :param norm_input: ``running``: observations are normalised by the mean and variance of all rollouts so far: vectors
        number by number, as ``VecNormalize`` does outside, images channel by channel; ``none``: they come as they are
    :param norm_value: ``running``: the critic's last layer learns ``(return - mean) / std``
        (:class:`~sb3_stable_ppo.policies.value_norm.NormalizedValue`); needs ``StablePPO`` or its siblings, or
        ``ValueNormCallback``; ``none``: it learns returns as they are
    :param norm_position: ``before`` or ``after`` the activation; None: the norm's own place
    :param activation: ``leaky_relu`` (the default), ``relu``, ``elu``, ``gelu``, ``silu``, ``tanh``, ``crelu`` (two
        outputs for each unit: the next layer has twice as many inputs), or a module class
    :param activation_fn: the same by SB3's name: ``nn.ReLU``, ``nn.Mish``, a class of your own
    :param negative_slope: slope of ``leaky_relu`` below zero
    :param norm_momentum: share of the newest observations in BatchNorm's running statistics, each update (``running``)
        or each minibatch (``batch``); None: 0.05 or 0.1
    :param norm_statistics: what BatchNorm normalises an update by: ``running`` statistics, as it does a rollout, or
        those of each minibatch, ``batch``, as torch does it
    :param init_gain: gain of the orthogonal init of all layers but the last (0.01 for actions, 1 for the value);
        ``ortho_init=False`` leaves torch's init
    :param memory_format: ``contiguous`` or ``channels_last``; this and the next two make it faster (docs/fast_path.md)
    :param precision: ``fp32``, ``bf16`` or ``auto``
    :param compile: True, False or ``auto``
    :param lean: True or ``auto``: a small network acts in NumPy, without torch's cost per call; where it cannot, that
        is an error or, with ``auto``, a line in the log
    :param net_arch: hidden layers behind the extractor, in SB3's form; None: the policy's default
    :param features_extractor_class: an extractor of your own in place of ours; norms are then its business
    :param features_extractor_kwargs: further arguments of the extractor
    :param optimizer_kwargs: as SB3's, but Adam keeps SB3's eps of 1e-5 unless they say otherwise: ``{fused: true}``
    :param kwargs: all other arguments of SB3's ``ActorCriticPolicy``
    :raises ValueError: for an unknown option or word, two activations, or observations that the policy cannot take
    """

    default_extractor: ClassVar[type[BaseFeaturesExtractor]] = FlattenExtractor
    default_extractor_kwargs: ClassVar[dict[str, Any]] = {}
    default_norm: ClassVar[str] = "layer"
    default_net_arch: ClassVar[dict[str, list[int]]] = {"pi": [], "vf": []}
    default_norm_hidden: ClassVar[str | None] = "none"
    """Of the hidden layers behind the extractor. None: as ``norm``."""

    block_config: BlockConfig
    fast_path_config: FastPathConfig
    norm_hidden: str
    norm_input: str
    norm_value: str
    init_gain: float

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        *,
        norm: str | None = None,
        norm_hidden: str | None = None,
        norm_input: str = "none",
        norm_value: str = "none",
        norm_position: str | None = None,
        activation: str | ActivationFn | None = None,
        activation_fn: str | ActivationFn | None = None,
        negative_slope: float = 0.01,
        norm_momentum: float | None = None,
        norm_statistics: str = "running",
        init_gain: float = 0.8,
        memory_format: str = "contiguous",
        precision: str = "fp32",
        compile: bool | str = False,  # torch's own word
        lean: bool | str = False,
        net_arch: NetArch | None = None,
        features_extractor_class: type[BaseFeaturesExtractor] | None = None,
        features_extractor_kwargs: dict[str, Any] | None = None,
        optimizer_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self._check_keywords(kwargs)
        self._check_observations(observation_space)
        block_config = BlockConfig(
            norm=self.default_norm if norm is None else norm,
            norm_position=norm_position,
            activation=chosen_activation(activation, activation_fn),
            negative_slope=negative_slope,
            norm_momentum=norm_momentum,
            norm_statistics=norm_statistics,
        )
        norm_of_hidden = one_of(
            (self.default_norm_hidden or block_config.norm) if norm_hidden is None else norm_hidden,
            NORMS,
            "norm_hidden",
        )
        fast_path_config = FastPathConfig(memory_format, precision, compile)
        extractor_class = self._extractor_class(features_extractor_class, one_of(norm_input, INPUT_NORMS, "norm_input"))
        if issubclass(extractor_class, (StableCNN, StableCombinedExtractor)):
            features_extractor_kwargs = {
                **(self.default_extractor_kwargs if extractor_class is self.default_extractor else {}),
                # SB3 passes this on to NatureCNN and CombinedExtractor alone (BaseModel.__init__)
                "normalized_image": not kwargs.get("normalize_images", True),
                "fast_path_config": fast_path_config,
                "norm_hidden": "none" if norm_hidden is None else norm_hidden,
                "norm_input": norm_input,
                **asdict(block_config),
                **(features_extractor_kwargs or {}),
            }
            features_extractor_kwargs.pop("speed", None)  # what version 0.1.0 saved, see _get_constructor_parameters
        # Kept out of nn.Module's attributes until its __init__ has run, which is where SB3 calls _build.
        self.__dict__.update(
            block_config=block_config,
            norm_hidden=norm_of_hidden,
            norm_input=norm_input,
            norm_value=one_of(norm_value, VALUE_NORMS, "norm_value"),
            fast_path_config=fast_path_config,
            init_gain=number(init_gain, "init_gain", high=100.0),
            lean=one_of_lean(lean),
        )
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch=self.default_net_arch if net_arch is None else checked_net_arch(net_arch),
            activation_fn=block_config.activation_class,
            features_extractor_class=extractor_class,
            features_extractor_kwargs=features_extractor_kwargs,
            optimizer_kwargs=_with_eps(optimizer_kwargs, kwargs.get("optimizer_class", th.optim.Adam)),
            **kwargs,
        )

    def _extractor_class(
        self, given: type[BaseFeaturesExtractor] | None, norm_input: str
    ) -> type[BaseFeaturesExtractor]:
        """
        :raises ValueError: if only an extractor of the user's own sees what is to be normalised
        """
        chosen = given or self.default_extractor
        own = (StableCNN, StableCombinedExtractor, NormalizedFlattenExtractor)
        if norm_input == "none" or issubclass(chosen, own):
            return chosen
        if chosen is FlattenExtractor:
            return NormalizedFlattenExtractor
        raise ValueError(
            f"norm_input='running' normalises in our own extractors, and {chosen.__name__} is another. "
            "Leave norm_input out, and normalise in the extractor."
        )

    def _check_keywords(self, given: Iterable[str]) -> None:
        known = keywords_of(type(self)) - {"observation_space", "action_space", "lr_schedule"}
        check_options(given, known, type(self).__name__, "policy_kwargs")

    def _check_observations(self, observation_space: spaces.Space[Any]) -> None:
        """Reject observations that this policy cannot take; by default the extractor does."""

    def _build_mlp_extractor(self) -> None:
        config = replace(self.block_config, norm=self.norm_hidden)
        # Behind an LSTM the hidden layers get its output (RecurrentActorCriticPolicy._build_mlp_extractor)
        features_dim = getattr(self, "lstm_output_dim", self.features_dim)
        self.mlp_extractor = StableMlpExtractor(features_dim, self.net_arch, config, self.device, self.fast_path_config)

    def _build(self, lr_schedule: Schedule) -> None:
        """Re-apply the init after SB3's own, in place: the optimizer holds these very parameters already."""
        super()._build(lr_schedule)
        if self.ortho_init:
            for module, gain in self._init_gains().items():
                for child in module.modules():
                    self.init_weights(child, gain)
        if self.norm_value == "running":
            self.value_net = NormalizedValue.of(self.value_net)
        own = (StableCNN, StableMlpExtractor, RunningInputNorm)
        self._find_norms(*(child for child in self.modules() if isinstance(child, own)))
        for child in self.modules():  # after the init, which cannot fill weights that lie otherwise
            if isinstance(child, StableCNN):
                self.fast_path_config.lay_out(child)
        self._begin_trial()
        self._find_region()
        self._lean_actor = LeanActor(self) if self.lean else None
        if self._lean_actor is not None:
            self._lean_actor.check()
        self._is_checked = self.fast_path_config.is_plain

    def _init_gains(self) -> dict[nn.Module, float]:
        extractors = (self.pi_features_extractor, self.vf_features_extractor, self.mlp_extractor)
        return {**dict.fromkeys(extractors, self.init_gain), self.action_net: 0.01, self.value_net: 1.0}

    def forward(self, obs: Any, *args: Any, **kwargs: Any) -> Any:
        """SB3's ``forward``, with which algorithms collect rollouts: BatchNorm learns its statistics here."""
        if not self._is_checked:  # not before: a saved model can be loaded and used where it could not be trained
            self.fast_path_config.check(self.device)
            self._is_checked = True
        if is_traced() or (
            self.fast_path_config.is_plain and not self._norms
        ):  # a microsecond counts in small networks
            return super().forward(obs, *args, **kwargs)
        with ExitStack() as stack:
            if not self.fast_path_config.is_plain:
                rows = len(next(iter(obs.values())) if isinstance(obs, dict) else obs)
                stack.enter_context(single_threaded_inference(rows, self.device))
            deterministic = kwargs.get("deterministic", any(arg is True for arg in args))
            stack.enter_context(self._learning_statistics(deterministic))
            return super().forward(obs, *args, **kwargs)

    def set_training_mode(self, mode: bool) -> None:
        if mode and isinstance(self.value_net, NormalizedValue):
            warn_if_untold(self.value_net)
        super().set_training_mode(mode)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        """SB3's, for ``BasePolicy.save``: our options as ``__init__`` takes them, the activation as its word."""
        data = super()._get_constructor_parameters()
        del data["activation_fn"]
        if data["features_extractor_kwargs"]:  # __init__ makes the FastPathConfig again from the plain words
            own = data["features_extractor_kwargs"].items()
            data["features_extractor_kwargs"] = {key: value for key, value in own if key != "fast_path_config"}
        data.update(
            **asdict(self.block_config),
            **asdict(self.fast_path_config),
            norm_hidden=self.norm_hidden,
            norm_input=self.norm_input,
            norm_value=self.norm_value,
            init_gain=self.init_gain,
            lean=self.lean,
            share_features_extractor=self.share_features_extractor,
        )
        return data


def _with_eps(
    optimizer_kwargs: dict[str, Any] | None, optimizer_class: type[th.optim.Optimizer]
) -> dict[str, Any] | None:
    """SB3 gives Adam, and no class derived from it, its eps of 1e-5 only where there are no ``optimizer_kwargs``."""
    if optimizer_kwargs is None or optimizer_class is not th.optim.Adam:
        return optimizer_kwargs
    return {"eps": 1e-5, **optimizer_kwargs}
