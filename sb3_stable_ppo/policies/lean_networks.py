"""
A small policy in NumPy: layers and distribution, forward and backward.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn
from torch.autograd.function import once_differentiable

from sb3_stable_ppo.fast.numpy_actions import NumpyActions, numpy_actions
from sb3_stable_ppo.fast.numpy_bodies import Bodies, Pair, bodies
from sb3_stable_ppo.fast.numpy_forms import NoNumpyForm
from sb3_stable_ppo.fast.numpy_layers import Layers
from sb3_stable_ppo.policies.extractors import StableCNN, StableCombinedExtractor, StableMlpExtractor
from sb3_stable_ppo.policies.input_norm import NormalizedFlattenExtractor

HOOKED = ("extract_features", "_get_action_dist_from_latent", "get_distribution", "predict_values")
"""Methods of SB3's policies that NumPy goes past: where a subclass has its own, torch calls it."""
LIBRARIES = ("stable_baselines3", "sb3_contrib", "sb3_stable_ppo")
Inputs = Callable[[Any], Pair]


class Networks(NamedTuple):
    """
    A policy in NumPy.

    :param inputs: from observations as the policy gets them to what the hidden layers of actor and critic get
    :param bodies: the hidden layers
    :param actor: from there to the parameters of the distribution
    :param critic: from there to values
    :param distribution: of actions
    :param shape: of one action
    """

    inputs: Inputs
    bodies: Bodies
    actor: Layers
    critic: Layers
    distribution: NumpyActions
    shape: tuple[int, ...]

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All there are, in the order of the gradients."""
        parts = (self.bodies, self.actor, self.critic, self.distribution)
        return [parameter for part in parts for parameter in part.parameters]

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
        actor, critic = self.bodies(self.inputs(obs))
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
        outputs = self.actor(self.bodies.actor(self.inputs(obs)[0]))
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
        (actor, critic), bodies_back = networks.bodies.learn(networks.inputs(obs))
        outputs, actor_back = networks.actor.learn(actor)
        judged = networks.distribution.judge(outputs, actions.numpy(), action_masks)
        values, critic_back = networks.critic.learn(critic)
        ctx.ways = bodies_back, actor_back, critic_back, judged.back
        return th.from_numpy(values), th.from_numpy(judged.log_prob), th.from_numpy(judged.entropy)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_values: th.Tensor, of_log_prob: th.Tensor, of_entropy: th.Tensor) -> Any:
        bodies_back, actor_back, critic_back, distribution_back = ctx.ways
        of_outputs, own = distribution_back(of_log_prob.numpy(), of_entropy.numpy())
        of_actor, head = actor_back(of_outputs)
        of_critic, of_value_head = critic_back(of_values.numpy())
        gradients = [*bodies_back(of_actor, of_critic), *head, *of_value_head, *own]
        return None, None, None, None, *(th.from_numpy(np.ascontiguousarray(each)) for each in gradients)


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
    if type(policy.mlp_extractor) is not StableMlpExtractor:
        raise NoNumpyForm(f"{type(policy.mlp_extractor).__name__} is an mlp_extractor that only torch runs")
    for module in policy.modules():
        if module is not policy and "forward" in vars(module):
            raise NoNumpyForm(f"a {type(module).__name__} has a forward of its own")
    if hasattr(policy, "lstm_output_dim"):
        raise NoNumpyForm("an LSTM has no NumPy form")
    if policy.fast_path_config.resolve(policy.device).bf16:
        raise NoNumpyForm("NumPy does not compute in bfloat16")
    actor, critic = policy.mlp_extractor.policy_net, policy.mlp_extractor.value_net
    return Networks(
        _inputs(policy),
        bodies([*actor], [*critic]),
        Layers([policy.action_net]),
        Layers([policy.value_net]),
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
    if is_image_space(policy.observation_space) and policy.normalize_images:
        raise NoNumpyForm("the observations are images, which SB3 divides by 255")
    if isinstance(policy.observation_space, spaces.Box):
        actor, critic = (
            Layers([extractor.norm] if isinstance(extractor, NormalizedFlattenExtractor) else [])
            for extractor in extractors
        )

        def of_vectors(obs: th.Tensor) -> Pair:
            rows = np.asarray(obs.numpy(), np.float32).reshape(len(obs), -1)
            found = actor(rows)
            return found, found if policy.share_features_extractor else critic(rows)

        return of_vectors

    def of_others(obs: Any) -> Pair:
        with th.no_grad():  # these extractors have no parameters
            found = policy.extract_features(obs)
        both = (found, found) if policy.share_features_extractor else found
        return both[0].numpy(), both[1].numpy()

    return of_others
