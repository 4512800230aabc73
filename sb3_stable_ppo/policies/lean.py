"""
Small networks act and learn without torch's cost per call: layers and distribution in NumPy, forward and backward.

SB3's ``forward`` takes some hundred microseconds for one observation of four numbers, nearly all of it in the calls of
modules and in the checks of distributions, and ``evaluate_actions`` some hundred more on the way back. Here the same
figures and the same gradients take a fraction of it (docs/fast_path.md).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn
from torch.autograd.function import once_differentiable

from sb3_stable_ppo.common.checks import unknown
from sb3_stable_ppo.fast.hooks import have_hooks
from sb3_stable_ppo.fast.numpy_actions import NotFinite, NumpyActions, numpy_actions
from sb3_stable_ppo.fast.numpy_layers import Layers, NoNumpyForm, Rows
from sb3_stable_ppo.policies.extractors import StableCNN, StableCombinedExtractor
from sb3_stable_ppo.policies.input_norm import NormalizedFlattenExtractor

# sb3-contrib's maskable policies have ActorCriticPolicy's methods but derive from BasePolicy alone.
if TYPE_CHECKING:
    _ActorCritic = ActorCriticPolicy
else:
    _ActorCritic = BasePolicy

log = logging.getLogger("sb3_stable_ppo.fast")
LEAN = (True, False, "auto")
MAX_ROWS = 256
"""Observations at once; from there on arithmetic counts, which torch does on several threads."""
HOOKED = ("extract_features", "_get_action_dist_from_latent", "get_distribution", "predict_values")
"""Methods of SB3's policies that NumPy goes past: where a subclass has its own, torch calls it."""
LIBRARIES = ("stable_baselines3", "sb3_contrib", "sb3_stable_ppo")
Inputs = Callable[[Any], tuple[Rows, Rows]]
"""From observations as the policy gets them to what the actor and the critic's hidden layers get."""


def one_of_lean(given: bool | str) -> bool | str:
    """
    :param given: the option
    :return: it
    :raises ValueError: for any other word
    """
    if given not in LEAN:
        raise ValueError(unknown("lean", given, ("true", "false", "auto")))
    return given


class Networks(NamedTuple):
    """
    A policy in NumPy.

    :param inputs: of the hidden layers
    :param actor: from there to the parameters of the distribution
    :param critic: from there to values
    :param distribution: of actions
    :param shape: of one action
    """

    inputs: Inputs
    actor: Layers
    critic: Layers
    distribution: NumpyActions
    shape: tuple[int, ...]

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All there are, in the order of the gradients."""
        return [*self.actor.parameters, *self.critic.parameters, *self.distribution.parameters]

    def forward(
        self, obs: Any, deterministic: bool = False, action_masks: Any = None
    ) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """
        As the policy's ``forward``.

        :param obs: observations
        :param deterministic: the likeliest action
        :param action_masks: of MaskablePPO
        :return: actions, values, and the logarithms of the actions' probabilities
        :raises NotFinite: if an output is not finite, before anything is drawn
        """
        actor, critic = self.inputs(obs)
        actions, log_prob = self.distribution.act(self.actor(actor), deterministic, action_masks)
        assert log_prob is not None
        values = th.from_numpy(self.critic(critic))
        return th.from_numpy(actions.reshape((-1, *self.shape))), values, th.from_numpy(log_prob)

    def predict(self, obs: Any, deterministic: bool = False, action_masks: Any = None) -> th.Tensor:
        """
        As the policy's ``_predict``.

        :param obs: observations
        :param deterministic: the likeliest action
        :param action_masks: of MaskablePPO
        :raises NotFinite: if an output is not finite, before anything is drawn
        """
        outputs = self.actor(self.inputs(obs)[0])
        actions, _ = self.distribution.act(outputs, deterministic, action_masks, wants_log_prob=False)
        return th.from_numpy(actions)

    def evaluate_actions(
        self, obs: Any, actions: th.Tensor, action_masks: Any = None
    ) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """
        As the policy's ``evaluate_actions``: one node of autograd's graph.

        :param obs: observations
        :param actions: to judge
        :param action_masks: of MaskablePPO
        :return: values, the logarithms of the actions' probabilities, and the entropy
        :raises NotFinite: if an output of the actor is not finite
        """
        evaluate: Any = _Evaluation.apply
        found: tuple[th.Tensor, th.Tensor, th.Tensor] = evaluate(self, obs, actions, action_masks, *self.parameters)
        return found


class _Evaluation(th.autograd.Function):
    """The networks' forward and backward pass."""

    @staticmethod
    def forward(ctx: Any, networks: Networks, obs: Any, actions: th.Tensor, action_masks: Any, *_: nn.Parameter) -> Any:
        actor, critic = networks.inputs(obs)
        outputs, actor_back = networks.actor.learn(actor)
        judged = networks.distribution.judge(outputs, actions.numpy(), action_masks)
        values, critic_back = networks.critic.learn(critic)
        ctx.ways = actor_back, critic_back, judged.back
        return th.from_numpy(values), th.from_numpy(judged.log_prob), th.from_numpy(judged.entropy)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_values: th.Tensor, of_log_prob: th.Tensor, of_entropy: th.Tensor) -> Any:
        actor_back, critic_back, distribution_back = ctx.ways
        of_outputs, own = distribution_back(of_log_prob.numpy(), of_entropy.numpy())
        gradients = [*actor_back(of_outputs)[1], *critic_back(of_values.numpy())[1], *own]
        return None, None, None, None, *(th.from_numpy(np.ascontiguousarray(each)) for each in gradients)


class LeanActor:
    """
    Acts for a policy, where it can. It is copied and pickled with its policy; the arrays are made anew.

    :param policy: one of ours, built
    """

    def __init__(self, policy: LeanActing) -> None:
        self.policy = policy
        self.networks: Networks | None = None
        self._weights: tuple[int, ...] | None = None
        self._modules: list[nn.Module] = []
        self._is_current = False

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "networks": None, "_weights": None, "_is_current": False}

    def look_again(self) -> None:
        """To be called where the policy's weights may lie elsewhere since: on a new device, or by ``.data``."""
        self._is_current = False

    def is_ready_for(self, obs: Any, learning: bool = False) -> bool:
        """
        Whether NumPy can do it now: for few rows, while nobody listens to the policy's modules.

        :param obs: observations
        :param learning: with gradients, in train mode; otherwise without, in eval mode
        :raises ValueError: if it never can, and the user asked for it with True
        """
        if not self._is_current:
            self._renew()
        rows = len(next(iter(obs.values()))) if isinstance(obs, dict) else len(obs)
        return (
            self.networks is not None
            and rows <= MAX_ROWS
            and self.policy.training == learning == th.is_grad_enabled()
            and not (learning and not self.networks.actor.learns)
            and not have_hooks(self._modules)
        )

    def _renew(self) -> None:
        weights = tuple(tensor.data_ptr() for tensor in (*self.policy.parameters(), *self.policy.buffers()))
        self._is_current = True
        if self.networks is not None:
            _forget_update(self.policy.action_dist)
        if weights == self._weights:
            return
        self._weights, self._modules = weights, list(self.policy.modules())
        try:
            self.networks = networks_of(self.policy)
        except NoNumpyForm as error:
            self.networks = None
            if self.policy.lean is True:
                raise ValueError(f"lean: true cannot be done here: {error}. Choose false or auto.") from None
            log.info("lean: auto acts as SB3 does: %s", error)


class LeanActing(_ActorCritic):
    """Mixin for a policy: SB3's ``forward``, ``_predict`` and ``evaluate_actions`` in NumPy, where that can be."""

    lean: bool | str
    _lean_actor: LeanActor | None = None

    def forward(self, obs: Any, *args: Any, **kwargs: Any) -> Any:
        """SB3's ``forward``, with which algorithms collect rollouts."""
        actor = self._lean_actor
        if actor is not None and actor.is_ready_for(obs):
            assert actor.networks is not None
            with suppress(NotFinite):
                return actor.networks.forward(obs, *args, **kwargs)
        return super().forward(obs, *args, **kwargs)

    def _predict(self, observation: Any, *args: Any, **kwargs: Any) -> Any:
        """SB3's ``_predict``, of which ``predict`` is made."""
        actor = self._lean_actor
        if actor is not None and actor.is_ready_for(observation):
            assert actor.networks is not None
            with suppress(NotFinite):
                return actor.networks.predict(observation, *args, **kwargs)
        return super()._predict(observation, *args, **kwargs)

    def evaluate_actions(self, obs: Any, *args: Any, **kwargs: Any) -> Any:
        """SB3's ``evaluate_actions``, from which algorithms learn."""
        actor = self._lean_actor
        if actor is not None and actor.is_ready_for(obs, learning=True):
            assert actor.networks is not None
            with suppress(NotFinite):
                return actor.networks.evaluate_actions(obs, *args, **kwargs)
        return super().evaluate_actions(obs, *args, **kwargs)

    def set_training_mode(self, mode: bool) -> None:
        """SB3 calls it before each rollout, update and ``predict``; after an update the weights may lie elsewhere."""
        super().set_training_mode(mode)
        if mode and self._lean_actor is not None:
            self._lean_actor.look_again()

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        """torch's own, of which ``to``, ``cpu`` and ``cuda`` are made."""
        if self._lean_actor is not None:
            self._lean_actor.look_again()
        return super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]


def _forget_update(distribution: Any) -> None:
    """SB3's distribution keeps the last minibatch's graph until it acts again. With it, no policy can be copied."""
    for name, nothing in (("distribution", None), ("distributions", [])):
        if name in vars(distribution):
            setattr(distribution, name, nothing)


def networks_of(policy: Any) -> Networks:
    """
    :param policy: one of ours
    :return: it in NumPy, on its own weights
    :raises NoNumpyForm: saying what has none
    """
    for name in HOOKED:
        if not getattr(type(policy), name).__module__.startswith(LIBRARIES):
            raise NoNumpyForm(f"{type(policy).__name__} has a method {name} of its own")
    if getattr(policy, "use_sde", False):
        raise NoNumpyForm("gSDE draws its noise in torch")
    if hasattr(policy, "lstm_actor"):
        raise NoNumpyForm("an LSTM has no NumPy form")
    if policy.fast_path_config.resolve(policy.device).bf16:
        raise NoNumpyForm("NumPy does not compute in bfloat16")
    actor, critic = policy.mlp_extractor.policy_net, policy.mlp_extractor.value_net
    return Networks(
        _inputs(policy),
        Layers([*actor, policy.action_net]),
        Layers([*critic, policy.value_net]),
        numpy_actions(policy.action_dist, getattr(policy, "log_std", None)),
        tuple(policy.action_space.shape),
    )


def _inputs(policy: Any) -> Inputs:
    extractors = (policy.pi_features_extractor, policy.vf_features_extractor)
    for extractor in extractors:
        if type(extractor) not in (FlattenExtractor, NormalizedFlattenExtractor, StableCombinedExtractor):
            raise NoNumpyForm(f"{type(extractor).__name__} is an extractor that only torch runs")
        if any(isinstance(module, StableCNN) for module in extractor.modules()):
            raise NoNumpyForm(f"{type(extractor).__name__} has images")
    if isinstance(policy.observation_space, spaces.Box):
        actor, critic = (
            Layers([extractor.norm] if isinstance(extractor, NormalizedFlattenExtractor) else [])
            for extractor in extractors
        )

        def of_vectors(obs: th.Tensor) -> tuple[Rows, Rows]:
            rows = np.asarray(obs.numpy(), np.float32).reshape(len(obs), -1)
            found = actor(rows)
            return found, found if policy.share_features_extractor else critic(rows)

        return of_vectors

    def of_others(obs: Any) -> tuple[Rows, Rows]:
        with th.no_grad():  # these extractors have no parameters
            found = policy.extract_features(obs)
        both = (found, found) if policy.share_features_extractor else found
        return both[0].numpy(), both[1].numpy()

    return of_others
