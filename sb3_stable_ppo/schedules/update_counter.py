"""
An on-policy algorithm that counts its own updates, so that a schedule needs no callback.
"""

from __future__ import annotations

import copy
import math
from typing import Any, ClassVar

from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_stable_ppo.schedules.learning_rate import approx_kl_of, counting_schedule, logged_kl, read_learning_rate


class CountsUpdates(OnPolicyAlgorithm):
    """
    Mixin: an on-policy algorithm that counts its updates for a :class:`CountingSchedule` given as ``learning_rate``.

    Relies on SB3 to call ``_setup_lr_schedule`` once on construction and on load, ``_setup_learn`` at the start of
    ``learn`` and ``train`` once per update.
    """

    counts_updates: ClassVar[bool] = True

    def _setup_lr_schedule(self) -> None:
        """:raises ValueError: for a schedule's class in place of a schedule, or a dict that makes none"""
        self.learning_rate = read_learning_rate(self.learning_rate)
        schedule = counting_schedule(self.learning_rate)
        if schedule is not None:  # a copy, so that two models built from one object do not share a count
            self.learning_rate = copy.copy(schedule)
        super()._setup_lr_schedule()

    def _setup_learn(
        self, total_timesteps: int, callback: Any = None, reset_num_timesteps: bool = True, *args: Any, **kwargs: Any
    ) -> Any:
        total_timesteps, callback = super()._setup_learn(
            total_timesteps, callback, reset_num_timesteps, *args, **kwargs
        )
        schedule = counting_schedule(self.learning_rate)
        if schedule is not None:
            steps = self.n_steps * self.n_envs
            total_updates = math.ceil(total_timesteps / steps)
            schedule.begin(self.num_timesteps, total_timesteps, total_updates, reset_num_timesteps, steps)
        return total_timesteps, callback

    def train(self) -> None:
        # An update that the guards drop may have logged no KL; then the one that is there is of an update before
        before = logged_kl(self)
        super().train()
        schedule = counting_schedule(self.learning_rate)
        if schedule is not None:
            schedule.advance(self.num_timesteps, None if logged_kl(self) is before else approx_kl_of(self))
