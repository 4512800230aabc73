"""
What any policy of SB3 or sb3-contrib says of some observations: one pass through each of its networks, nothing sampled.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch as th
from gymnasium import spaces
from stable_baselines3.common.distributions import TanhBijector
from stable_baselines3.common.policies import BasePolicy
from torch.distributions import Bernoulli, Categorical, Distribution, Normal

from sb3_stable_ppo.metrics.policy import action_balance, entropy_share, policy_variance

Observations = th.Tensor | dict[str, th.Tensor]


class Outputs(NamedTuple):
    """
    :param parts: of a policy that draws, a distribution for each part of the action; else empty
    :param choices: of continuous actions the mean as the env gets it, squashed or clipped; of a greedy policy (DQN's)
        the actions, one-hot
    :param values: of an actor-critic of SB3's PPO kind, shape (states,)
    """

    parts: list[Distribution]
    choices: th.Tensor | None
    values: th.Tensor | None

    def parameters(self) -> list[th.Tensor]:
        """All there is, as tensors."""
        names = ("logits", "loc", "scale")
        found = [value for part in self.parts for name in names if (value := getattr(part, name, None)) is not None]
        return [*found, *(tensor for tensor in (self.choices, self.values) if tensor is not None)]


def outputs_of(policy: BasePolicy, observations: Observations, action_masks: Any = None) -> Outputs:
    """
    Behind an LSTM, as at the first step of an episode, where its state is zero. Relies on the method names that all
    actor-critics of SB3 and sb3-contrib share, and on ``_get_action_dist_from_latent``, from which they all make their
    distribution.

    :param policy: in the mode that is wanted; gradients are the caller's business
    :param observations: a batch as the policy gets it, on its device, images not yet scaled
    :param action_masks: of MaskablePPO, a row for each observation; None: its distribution as if all were allowed
    """
    return _outputs(policy, observations, policy.action_space, action_masks)


def _outputs(policy: Any, observations: Observations, action_space: spaces.Space[Any], action_masks: Any) -> Outputs:
    if hasattr(policy, "lstm_actor"):
        rows = len(next(iter(observations.values())) if isinstance(observations, dict) else observations)
        lstm = policy.lstm_actor
        state = th.zeros(lstm.num_layers, rows, lstm.hidden_size, device=policy.device)
        starts = th.ones(rows, device=policy.device)
        parts = parts_of(policy.get_distribution(observations, (state, state), starts)[0])
        values = policy.predict_values(observations, (state, state), starts)
        return Outputs(parts, _as_acted(parts, action_space, policy.squash_output), values.flatten())
    if hasattr(policy, "mlp_extractor"):
        features = policy.extract_features(observations)
        actor, critic = features if isinstance(features, tuple) else (features, features)
        latent = policy.mlp_extractor.forward_actor(actor)
        values = policy.value_net(policy.mlp_extractor.forward_critic(critic))
        distribution = policy._get_action_dist_from_latent(latent)
        if action_masks is not None:
            distribution.apply_masking(action_masks)
        parts = parts_of(distribution)
        return Outputs(parts, _as_acted(parts, action_space, policy.squash_output), values.flatten())
    if hasattr(policy, "critic"):
        if not hasattr(policy.actor, "get_action_dist_params"):  # TD3, DDPG
            actions = policy.actor(observations)
            policy.critic(observations, actions)
            return Outputs([], actions, None)
        mean, log_std, extra = policy.actor.get_action_dist_params(observations)
        policy.critic(observations, mean.tanh())
        if "latent_sde" in extra:  # gSDE: as its own proba_distribution has it, which would leave a trace in it
            gsde = policy.actor.action_dist
            std = (extra["latent_sde"] ** 2 @ gsde.get_std(log_std) ** 2 + gsde.epsilon).sqrt()
        else:
            std = log_std.exp()
        return Outputs([Normal(mean, std, validate_args=False)], mean.tanh(), None)
    if hasattr(policy, "q_net"):
        greedy = policy.q_net(observations).argmax(dim=1)
    elif hasattr(policy, "quantile_net"):
        greedy = policy.quantile_net(observations).mean(dim=1).argmax(dim=1)
    else:  # ARS, whose policy is one network
        greedy = policy(observations)
    if not isinstance(action_space, spaces.Discrete):
        return Outputs([], greedy, None)
    return Outputs([], th.nn.functional.one_hot(greedy.long(), int(action_space.n)).float(), None)


def policy_figures(outputs: Outputs, action_space: spaces.Space[Any]) -> dict[str, float]:
    """
    How much a policy depends on the state, and how evenly it acts; of several parts of an action, the mean, but of
    their balances the least: one that is stuck is one too many.

    :param outputs: over states that differ
    :param action_space: the policy's
    :return: ``policy_variance``, and of discrete actions ``action_balance``, and of those that are drawn
        ``entropy_share``
    """
    if outputs.choices is not None:
        choices = outputs.choices.flatten(1)
        figures = {"policy_variance": policy_variance(choices)}
        if isinstance(action_space, spaces.Discrete):
            figures["action_balance"] = action_balance(choices)
        return figures
    found = [figures for part in outputs.parts for figures in _part_figures(part)]
    figures = {name: sum(part[name] for part in found) / len(found) for name in found[0]}
    return {**figures, "action_balance": min(part["action_balance"] for part in found)}


def log_prob(parts: list[Distribution], actions: th.Tensor) -> th.Tensor:
    """
    Log-probability of actions.

    :param parts: a distribution for each part of the action
    :param actions: shape (states, parts) or (states, dims), before any tanh (:func:`unsquashed`)
    """
    if isinstance(parts[0], Categorical):
        columns = actions.reshape(len(actions), -1).long().unbind(dim=1)
        return th.stack([part.log_prob(column) for part, column in zip(parts, columns, strict=True)]).sum(dim=0)
    return parts[0].log_prob(actions.reshape(parts[0].batch_shape).float()).sum(dim=1)


def parts_of(distribution: Any) -> list[Distribution]:
    """
    A distribution for each part of the action.

    :param distribution: of SB3 or sb3-contrib, which has one of torch's, or of MultiDiscrete actions several
    """
    found = getattr(distribution, "distributions", None) or distribution.distribution
    return list(found) if isinstance(found, (list, tuple)) else [found]


def unsquashed(policy: BasePolicy, actions: th.Tensor) -> th.Tensor:
    """
    Actions as the distribution of :func:`parts_of` draws them, for :func:`log_prob`.

    :param policy: which may put a tanh behind that (gSDE with ``squash_output``)
    :param actions: as a buffer holds them
    """
    return TanhBijector.inverse(actions) if policy.squash_output else actions


def _as_acted(parts: list[Distribution], action_space: spaces.Space[Any], squashes: bool) -> th.Tensor | None:
    """The mean of continuous actions, squashed, or within the bounds of the space, to which SB3 clips them."""
    if not isinstance(action_space, spaces.Box):
        return None
    if squashes:
        return parts[0].mean.tanh()
    low, high = (th.as_tensor(bound, device=parts[0].mean.device) for bound in (action_space.low, action_space.high))
    return parts[0].mean.clamp(low.flatten(), high.flatten())


def _part_figures(part: Distribution) -> list[dict[str, float]]:
    if isinstance(part, Bernoulli):  # each button is a choice of two
        return [_choice_figures(th.stack([1 - yes, yes], dim=1)) for yes in part.probs.unbind(dim=1)]
    assert isinstance(part, Categorical)
    return [_choice_figures(part.probs)]


def _choice_figures(probs: th.Tensor) -> dict[str, float]:
    if probs.shape[1] < 2:  # no choice at all is no sickness
        return {"policy_variance": 0.0, "action_balance": 1.0, "entropy_share": 1.0}
    return {
        "policy_variance": policy_variance(probs),
        "action_balance": action_balance(probs),
        "entropy_share": entropy_share(probs),
    }
