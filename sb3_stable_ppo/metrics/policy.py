"""
Measures of what a policy does, over states: probabilities, ratios and values in, floats out.

The KL of an update is :func:`sb3_stable_ppo.metrics.kl.mean_kl`, the ratio error of its first minibatch
:func:`sb3_stable_ppo.metrics.kl.first_ratio_error`, and the explained variance of the values SB3's own
``stable_baselines3.common.utils.explained_variance``.
"""

from __future__ import annotations

import math

import torch as th


def policy_variance(probs: th.Tensor) -> float:
    """
    Mean over actions of the variance of pi(a|s) over states: 0 for a policy that does not look at the state
    (CLAIRE, https://arxiv.org/abs/2405.00662). At birth it is 0 as well, by init. Of a Gaussian policy, give its means
    divided by its standard deviations.

    >>> policy_variance(th.tensor([[1.0, 0.0], [0.0, 1.0]]))
    0.25

    :param probs: shape (states, actions)
    """
    return float(_exact(probs).var(dim=0, correction=0).mean())


def entropy_share(probs: th.Tensor) -> float:
    """
    Mean entropy over states, as a share of its maximum, ln(actions): 1 for a policy that draws evenly, 0 for one that
    always knows. Near 0 early on is a collapse, near 1 late as well (the end of CLAIRE's runs).

    >>> entropy_share(th.full((3, 4), 0.25))
    1.0

    :param probs: shape (states, actions), of two actions at least
    """
    return float(_entropy(probs).mean() / math.log(probs.shape[1]))


def action_balance(probs: th.Tensor) -> float:
    """
    Entropy of the mean distribution over states, as a share of ln(actions): 0 where one action is all there is, in
    whatever state. A policy that is sure in each state but chooses differently in different states is balanced.

    >>> action_balance(th.tensor([[1.0, 0.0], [0.0, 1.0]]))
    1.0

    :param probs: shape (states, actions), of two actions at least
    """
    return float(_entropy(_exact(probs).mean(dim=0, keepdim=True))[0] / math.log(probs.shape[1]))


def ratio_excess(ratio: th.Tensor, clip_range: float) -> float:
    """
    Mean of the ratios above ``1 + clip_range`` divided by the mean of those below ``1 - clip_range``, over a whole
    rollout after its update (CLAIRE, https://arxiv.org/abs/2405.00662). Where there are none on a side, the bound
    itself stands for them. Healthy: a little above ``(1 + clip_range) / (1 - clip_range)``; clipping should not let
    it grow, and where features have collapsed it does.

    >>> round(ratio_excess(th.tensor([1.0, 1.5, 0.5]), 0.2), 6)
    3.0

    :param ratio: pi_new(a|s) / pi_old(a|s), shape (batch,)
    :param clip_range: PPO's
    :return: NaN for a ``clip_range`` of 1 or more, which bounds no ratio from below
    """
    if clip_range >= 1:
        return math.nan
    above, below = ratio[ratio > 1 + clip_range], ratio[ratio < 1 - clip_range]
    high = float(above.mean()) if above.numel() else 1 + clip_range
    low = float(below.mean()) if below.numel() else 1 - clip_range
    return high / max(low, 1e-12)


def policy_churn(before: th.Tensor, after: th.Tensor) -> float:
    """
    Share of states in which an update changes the most probable action (Schaul et al., 2022,
    https://arxiv.org/abs/2206.00730), best read on states that the update did not see. Up to 1 while all actions are
    alike; it falls as they begin to differ.

    >>> policy_churn(th.tensor([[0.9, 0.1], [0.4, 0.6]]), th.tensor([[0.8, 0.2], [0.7, 0.3]]))
    0.5

    :param before: probabilities before the update, shape (states, actions)
    :param after: those after it
    """
    return float(_exact(before.argmax(dim=1) != after.argmax(dim=1)).mean())


def churn_cross_entropy(before: th.Tensor, after: th.Tensor) -> float:
    """
    Mean over states of ``-sum(before * ln(after))``: what C-CHAIN adds to PPO's loss, on a minibatch of its own
    (https://arxiv.org/abs/2506.00592). It is the entropy of ``before`` plus KL(before || after).

    >>> churn_cross_entropy(th.tensor([[1.0, 0.0]]), th.tensor([[0.5, 0.5]])) == math.log(2)
    True

    :param before: probabilities before the update, shape (states, actions)
    :param after: those after it
    """
    return float(-(_exact(before) * _exact(after).clamp_min(1e-300).log()).sum(dim=1).mean())


def _entropy(probs: th.Tensor) -> th.Tensor:
    terms: th.Tensor = th.special.entr(_exact(probs))
    return terms.sum(dim=1)


def _exact(tensor: th.Tensor) -> th.Tensor:
    """In float64, on the CPU: MPS has none."""
    return tensor.cpu().double()
