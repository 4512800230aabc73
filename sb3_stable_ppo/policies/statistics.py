"""
When running statistics, BatchNorm's and those of observations, are learnt in the life of a policy: calibrated in the
first rollout, gathered while it acts, moved after each update. It works under any algorithm of SB3 that sets train mode
for updates alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch as th
from stable_baselines3.common.policies import BasePolicy
from torch import nn
from typing_extensions import Self  # torch depends on it; typing has it from 3.11 on

from sb3_stable_ppo.policies.blocks import MOMENTUM, BlockConfig
from sb3_stable_ppo.policies.calibration import calibrating, norms_with_statistics, pretraining, untracked
from sb3_stable_ppo.policies.input_norm import RunningInputNorm
from sb3_stable_ppo.policies.running_batch_norm import RunningBatchNorm
from sb3_stable_ppo.policies.running_norm import GATHERED, RunningNorm, gathering

GATHER_EVERY = 4
"""Every fourth step of a rollout is gathered for BatchNorm's statistics: steps that follow each other look alike."""


class BatchNormStatistics(BasePolicy):
    """Mixin for a policy: the statistics of its norms. :meth:`_find_norms` is called when they have been built."""

    block_config: BlockConfig
    running_norms: tuple[RunningNorm, ...]
    """The norms whose running statistics move after each update."""
    _has_acted = True
    """Whether a rollout has been begun, here or in the process that saved the policy."""

    def _find_norms(self, *networks: nn.Module) -> None:
        """
        :param networks: of ours; what a features extractor of the user's own does with its norms is its business
        """
        self._norms = tuple(dict.fromkeys(norm for network in networks for norm in norms_with_statistics(network)))
        self.running_norms = tuple(norm for norm in self._norms if isinstance(norm, RunningNorm))
        self._acting_steps = 0
        self._calibrates = bool(self._norms)
        self._has_acted = not any(isinstance(norm, RunningInputNorm) for norm in self._norms)

    @contextmanager
    def _learning_statistics(self, deterministic: bool) -> Iterator[None]:
        """
        Around a ``forward``, with which algorithms collect rollouts: without gradients, and drawing their actions.
        Whoever calls it otherwise looks at the policy, or exports it, and changes nothing.

        In eval mode and until the first update, BatchNorm learns its statistics from the observations that pass here,
        in place of the mean 0 and variance 1 it is born with. (From its first batch alone it would not do: a few frames
        just after the reset hardly differ, and what comes later is then divided by next to nothing: docs/batchnorm.md.)
        Afterwards they are gathered.

        :param deterministic: whether the actions are not drawn
        """
        if self.training or not self._norms or deterministic or th.is_grad_enabled():
            yield
            return
        self._has_acted = True
        if self._calibrates:
            with calibrating(self._norms):
                yield
        else:
            norms = self.running_norms if self._acting_steps % GATHER_EVERY == 0 else ()
            self._acting_steps += 1
            with gathering(norms):
                yield

    def evaluate_actions(self, *args: Any, **kwargs: Any) -> Any:
        """
        SB3's. Where a policy learns here before it has ever acted, as in behaviour cloning, its observations are
        normalised by what it learns from, not by the mean 0 and variance 1 they are born with.
        """
        if self._has_acted or not th.is_grad_enabled():
            return super().evaluate_actions(*args, **kwargs)  # type: ignore[misc]  # of the actor-critic behind
        self._calibrates = False  # a first rollout must not put its own statistics under the weights learnt here
        with pretraining([norm for norm in self.running_norms if isinstance(norm, RunningInputNorm)]):
            return super().evaluate_actions(*args, **kwargs)  # type: ignore[misc]

    def set_training_mode(self, mode: bool) -> None:
        """SB3 leaves train mode before whatever acts next: there BatchNorm's running statistics move."""
        super().set_training_mode(mode)
        if not mode:
            self.move_statistics()

    def move_statistics(self, scale: float = 1.0) -> None:
        """
        After an update, move the running statistics of each :class:`RunningNorm` towards those of the rollout;
        otherwise do nothing.

        :param scale: factor of ``norm_momentum``
        """
        if self.statistics_are_due:
            for norm in self.running_norms:
                norm.move(scale)
            self._acting_steps = 0

    @property
    def statistics_are_due(self) -> bool:
        """Whether an update has begun since statistics were gathered."""
        return any(bool(norm.is_due) for norm in self.running_norms[:1])

    def train(self, mode: bool = True) -> Self:
        """SB3 sets train mode when an update begins: there the calibration ends."""
        if mode:
            self._calibrates = False
        return super().train(mode)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Statistics that were learnt before stay as they were saved; version 0.1.0 goes on in torch's way."""
        has, gathers = (any(name.endswith(end) for name in state_dict) for end in (".running_mean", f".{GATHERED[0]}"))
        if self.running_norms and has and not gathers:
            self._use_batch_statistics()
        result = super().load_state_dict(state_dict, *args, **kwargs)
        self._calibrates = any(untracked(norm) for norm in self._norms)
        self._has_acted = not self._calibrates
        return result

    def _use_batch_statistics(self) -> None:
        given = self.block_config.norm_momentum
        for norm in self.running_norms:
            if isinstance(norm, RunningBatchNorm):
                norm.become_batch_norm(MOMENTUM["batch"] if given is None else given)
        self.running_norms = tuple(norm for norm in self.running_norms if isinstance(norm, RunningNorm))
        self.block_config = replace(self.block_config, norm_statistics="batch")
