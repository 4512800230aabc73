"""
How far two policies are from each other: KL divergences and ratios; tensors in, numbers out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch as th

LOG_MAX = 88.0
"""exp(89) overflows float32."""


def first_ratio_error(log_prob: th.Tensor, old_log_prob: th.Tensor) -> float:
    """
    The largest ``|ratio - 1|`` among the finite ratios.

    :param log_prob: log-probabilities under the new policy, shape (batch,)
    :param old_log_prob: those under the policy that collected the data, shape (batch,)
    """
    error = (log_prob - old_log_prob).detach().clamp(max=LOG_MAX).exp().sub(1).abs()
    error = error[th.isfinite(error)]
    return float(error.max()) if error.numel() else 0.0


def approx_kl(log_ratio: th.Tensor) -> th.Tensor:
    """
    SB3's estimate of the KL divergence, ``mean((ratio - 1) - log_ratio)`` (http://joschu.net/blog/kl-approx.html);
    beyond 88 a log-ratio counts as 88, which keeps the estimate finite.

    :param log_ratio: finite, shape (batch,)
    """
    log_ratio = log_ratio.clamp(max=LOG_MAX)
    return ((th.exp(log_ratio) - 1) - log_ratio).mean()


def mean_kl(
    old: Sequence[th.distributions.Distribution],
    new: Sequence[th.distributions.Distribution],
    mask: th.Tensor | None = None,
) -> float:
    """
    Mean over the rows of KL(old || new), in closed form.

    :param old: the policy's distributions before, one per part of the action, batch shape (batch,) or (batch, dims)
    :param new: those after
    :param mask: True where a padded sequence has data
    """
    rows = sum(
        divergence.flatten(1).sum(1) if divergence.dim() > 1 else divergence
        for divergence in (kl_divergence(p, q) for p, q in zip(old, new, strict=True))
    )
    assert isinstance(rows, th.Tensor)
    return float((rows if mask is None else rows[mask]).mean())


def kl_divergence(p: th.distributions.Distribution, q: th.distributions.Distribution) -> th.Tensor:
    """
    KL(p || q), for Categorical and Bernoulli from log-probabilities: torch's own formula is infinite where a
    probability rounds to 0 or 1, which a confident policy's do.

    :param p: the first distribution
    :param q: of the same kind
    """
    if isinstance(p, th.distributions.Categorical) and isinstance(q, th.distributions.Categorical):
        shares = p.probs * (p.logits - q.logits)
        return th.where(p.probs > 0, shares, 0.0).sum(-1)
    if isinstance(p, th.distributions.Bernoulli) and isinstance(q, th.distributions.Bernoulli):
        log_sigmoid = th.nn.functional.logsigmoid
        yes = p.logits.sigmoid() * (log_sigmoid(p.logits) - log_sigmoid(q.logits))
        return yes + (-p.logits).sigmoid() * (log_sigmoid(-p.logits) - log_sigmoid(-q.logits))
    return th.distributions.kl_divergence(p, q)
