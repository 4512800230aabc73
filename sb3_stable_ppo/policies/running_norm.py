"""
Layers that normalise by running statistics, in rollout and update alike; and how moments are gathered for them.

While the policy acts, the moments of what passes are gathered aside. After the update, before the next rollout acts,
the running statistics move towards them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch as th
from torch import nn
from typing_extensions import Self  # torch depends on it; typing has it from 3.11 on

GATHERED = ("gathered_mean", "gathered_var", "gathered_batches", "is_due")
"""The buffers of the gathered moments, which torch's BatchNorm does not have."""


class RunningNorm(nn.Module):
    """
    Mixin for a layer that normalises by running statistics, in rollout and update alike. The gathered moments are
    buffers: they are saved, loaded, and undone with the weights.
    """

    gathered_mean: th.Tensor
    gathered_var: th.Tensor
    gathered_batches: th.Tensor
    is_due: th.Tensor

    def _gathers(self, num_features: int) -> None:
        """To be called at the end of ``__init__``."""
        self.register_buffer("gathered_mean", th.zeros(num_features))
        self.register_buffer("gathered_var", th.zeros(num_features))
        self.register_buffer("gathered_batches", th.zeros((), dtype=th.long))
        self.register_buffer("is_due", th.zeros((), dtype=th.bool))
        self.training = False

    def train(self, mode: bool = True) -> Self:
        """Notes that an update begins. The layer itself stays in eval mode, in which it uses the running statistics."""
        if mode and int(self.gathered_batches) > 0:
            self.is_due.fill_(True)
        return super().train(False)

    def gather(self, inputs: th.Tensor) -> None:
        """
        Take a batch into the moments; all batches of a rollout count the same.

        :param inputs: as ``forward`` gets them, shape (batch, features, ...)
        """
        self.gathered_batches.add_(1)
        pool(self.gathered_mean, self.gathered_var, inputs, 1.0 / self.gathered_batches)

    def move(self, scale: float = 1.0) -> None:
        """
        Move the running statistics towards the gathered moments, and forget these.

        :param scale: factor of the move
        """
        raise NotImplementedError

    def forget(self) -> None:
        """Drop what was gathered."""
        for name in GATHERED:
            getattr(self, name).zero_()


def pool(mean: th.Tensor, var: th.Tensor, inputs: th.Tensor, weight: th.Tensor) -> None:
    """
    Pool the moments of one more batch into those of the batches before, in place.

    >>> mean, var = th.zeros(1), th.ones(1)
    >>> for number, batch in enumerate((th.tensor([[1.0], [3.0]]), th.tensor([[5.0], [7.0]])), start=1):
    ...     pool(mean, var, batch, th.tensor(1 / number))
    >>> mean.item(), var.item()  # of 1, 3, 5, 7
    (4.0, 5.0)

    :param mean: shape (features,)
    :param var: biased, shape (features,)
    :param inputs: shape (batch, features, ...)
    :param weight: share of the new batch; 1 leaves nothing of what was there
    """
    batch = inputs.detach().float()
    dims = [dim for dim in range(batch.dim()) if dim != 1]
    pool_moments(mean, var, batch.mean(dims), batch.var(dims, correction=0), weight)


def pool_moments(mean: th.Tensor, var: th.Tensor, new_mean: th.Tensor, new_var: th.Tensor, weight: th.Tensor) -> None:
    """
    Pool the moments of new rows into those of the rows before, in place.

    :param mean: any shape
    :param var: biased, of the same shape
    :param new_mean: of the same shape
    :param new_var: biased, of the same shape
    :param weight: share of the new rows; 1 leaves nothing of what was there
    """
    deviation = new_mean - mean
    var.copy_((1 - weight) * var + weight * new_var + weight * (1 - weight) * deviation**2)
    mean.add_(weight * deviation)


def _gather(norm: nn.Module, args: tuple[th.Tensor, ...]) -> None:
    assert isinstance(norm, RunningNorm)
    norm.gather(args[0])


@contextmanager
def gathering(norms: Sequence[nn.Module]) -> Iterator[None]:
    """
    Within this context each norm takes what it normalises into its moments. No random number is drawn.

    :param norms: :class:`RunningNorm`, each
    """
    handles = [norm.register_forward_pre_hook(_gather) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
