"""
How far outputs have moved on states that were not learnt from: the two forms of C-CHAIN's term.
"""

from __future__ import annotations

from typing import Any

import torch as th
from torch.distributions import Bernoulli, Categorical, Distribution

EPS = 1e-8
"""Of C-CHAIN: added to a probability before its logarithm is taken."""


def policy_churn(now: list[Distribution], before: list[Distribution]) -> th.Tensor:
    """
    Of each row, summed over the parts of an action: the cross-entropy ``-sum p_before * ln(p_now + 1e-8)``, of
    continuous actions the mean over their dimensions of ``(mean_now - mean_before)**2``.

    >>> even, sure = Categorical(th.tensor([[0.5, 0.5]])), Categorical(th.tensor([[0.0, 1.0]]))
    >>> round(policy_churn([even], [sure]).item(), 4)  # ln 2
    0.6931

    :param now: a distribution for each part, with gradients
    :param before: the same, earlier, without
    :return: shape (rows,)
    """
    return th.stack([_part(new, old) for new, old in zip(now, before, strict=True)]).sum(dim=0)


def value_churn(now: Any, before: Any) -> th.Tensor:
    """
    The mean of ``(now - before)**2`` over all rows and outputs.

    :param now: a tensor, or of twin critics a tuple of them, with gradients
    :param before: the same, earlier, without
    """
    if isinstance(now, tuple):
        now, before = th.cat(now, dim=1), th.cat(before, dim=1)
    return th.nn.functional.mse_loss(now, before)


def _part(now: Any, before: Any) -> Any:
    if isinstance(now, Categorical):
        return -(before.probs * th.log(now.probs + EPS)).sum(dim=-1)
    if isinstance(now, Bernoulli):
        yes, no = before.probs * th.log(now.probs + EPS), (1 - before.probs) * th.log(1 - now.probs + EPS)
        return -(yes + no).sum(dim=-1)
    return ((now.mean - before.mean) ** 2).mean(dim=-1)
