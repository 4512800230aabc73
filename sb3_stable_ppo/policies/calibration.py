"""
Running statistics before the first update: those of the first rollout, in place of mean 0 and variance 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch as th
from torch import nn

from sb3_stable_ppo.metrics.layers import BatchNorm
from sb3_stable_ppo.policies.input_norm import RunningInputNorm
from sb3_stable_ppo.policies.running_norm import pool


def norms_with_statistics(module: nn.Module) -> tuple[nn.Module, ...]:
    """The layers within ``module`` whose statistics are learnt: BatchNorms, and those of observations."""
    return tuple(child for child in module.modules() if isinstance(child, (*BatchNorm, RunningInputNorm)))


def _take_in(norm: nn.Module, args: tuple[th.Tensor, ...]) -> None:
    """Forward pre-hook: the running statistics become those of all batches so far, the coming one included."""
    assert isinstance(norm, (*BatchNorm, RunningInputNorm))
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    # with weight 1, the first batch, nothing is left of the mean 0 and variance 1 that a BatchNorm is born with
    pool(norm.running_mean, norm.running_var, args[0], 1.0 / norm.num_batches_tracked)


@contextmanager
def calibrating(norms: Sequence[nn.Module]) -> Iterator[None]:
    """
    Within this context each norm takes a batch into its statistics before it normalises that batch; all batches
    count the same, as if they were one. No random number is drawn, and it works in eval mode.

    :param norms: the layers to calibrate
    """
    handles = [norm.register_forward_pre_hook(_take_in) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def pretraining(norms: Sequence[RunningInputNorm]) -> Iterator[None]:
    """
    As :func:`calibrating`, where a policy learns from data before it has ever acted. Each batch counts as a rollout, so
    rollouts that come later move the statistics as little as one more batch would.

    :param norms: of the policy's observations
    """
    with calibrating(norms):
        yield
    for norm in norms:
        norm.rollouts.copy_(norm.num_batches_tracked)


def untracked(norm: nn.Module) -> bool:
    """Whether a norm has seen no batch yet: its statistics are still mean 0, variance 1."""
    assert isinstance(norm, (*BatchNorm, RunningInputNorm))
    return norm.num_batches_tracked is not None and int(norm.num_batches_tracked) == 0
