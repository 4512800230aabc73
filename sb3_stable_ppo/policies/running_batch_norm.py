"""
BatchNorm with consistent statistics: rollout and update normalise by the same running statistics.

torch's BatchNorm normalises a rollout by its running statistics and an update by those of each minibatch, so the policy
that learns is not the policy that acted. Here both use the running statistics, and the first ratio of an update is 1.
While the policy acts, the moments of what passes are gathered aside. After the update the running statistics move
towards them, by ``momentum``:

    running <- running + momentum * (gathered - running)

Slow is what makes it work: with momentum 1 each move throws the policy out of every trust region (docs/batchnorm.md).
"""

from __future__ import annotations

from torch import nn

from sb3_stable_ppo.policies.running_norm import GATHERED, RunningNorm


class RunningBatchNorm(RunningNorm, nn.modules.batchnorm._BatchNorm):
    """
    Mixin for torch's BatchNorms.

    :param num_features: channels of a convolution, or width of a linear layer
    :param momentum: share of the gathered moments in the running statistics, once an update
    """

    def __init__(self, num_features: int, momentum: float) -> None:
        super().__init__(num_features, momentum=momentum)
        self._gathers(num_features)

    def move(self, scale: float = 1.0) -> None:
        """
        Move the running statistics towards the gathered moments, and forget these.

        :param scale: factor of ``momentum``
        """
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        self.running_mean.lerp_(self.gathered_mean, scale * self.momentum)
        self.running_var.lerp_(self.gathered_var, scale * self.momentum)
        self.forget()

    def become_batch_norm(self, momentum: float) -> None:
        """
        Go on in torch's way, as a model of version 0.1.0 does. The parameters stay the ones that the optimizer holds.

        :param momentum: share of each minibatch in the running statistics
        """
        for name in GATHERED:
            delattr(self, name)
        self.momentum = momentum
        self.__class__ = nn.BatchNorm2d if isinstance(self, nn.BatchNorm2d) else nn.BatchNorm1d  # type: ignore[assignment]


class RunningBatchNorm1d(RunningBatchNorm, nn.BatchNorm1d):
    """For hidden layers."""


class RunningBatchNorm2d(RunningBatchNorm, nn.BatchNorm2d):
    """For convolutions."""
