"""
The callback that counts updates for a schedule, in algorithms that do not count by themselves.
"""

from __future__ import annotations

import copy
import inspect
import math
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback, EventCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.utils import FloatSchedule

from sb3_stable_ppo.common.lazy import public
from sb3_stable_ppo.schedules.counting import CountingSchedule
from sb3_stable_ppo.schedules.kl_adaptive import KLAdaptiveLR
from sb3_stable_ppo.schedules.learning_rate import SCHEDULES, StepLR, approx_kl_of, counting_schedule, make_schedule


@public
class LRSchedulerCallback(BaseCallback):
    """
    Counts updates for a :class:`~sb3_stable_ppo.schedules.counting.CountingSchedule` in any SB3 algorithm.
    ``StablePPO`` counts by itself and needs no such callback; with it, the callback only sets the schedule.

    >>> model.learn(10_000, callback=LRSchedulerCallback("step", step_size=2))  # doctest: +SKIP

    SB3 has no hook behind ``train()``: a changed ``_n_updates`` at the start of the next rollout tells that one was.

    :param schedule: a schedule, its name (``step``, ``linear``, ``cosine``, ``warmup``, ``kl_adaptive``), or None: the
        model's own ``learning_rate``
    :param verbose: SB3's verbosity
    :param options: the arguments of a schedule given by name
    :raises ValueError: if it is no schedule that counts, its name or arguments are unknown, or there is none at all
    """

    extra_keywords = frozenset(name for cls in SCHEDULES.values() for name in inspect.signature(cls).parameters)

    def __init__(self, schedule: CountingSchedule | str | None = None, verbose: int = 0, **options: Any) -> None:
        super().__init__(verbose)
        if isinstance(schedule, str):
            schedule = make_schedule(schedule, **options)
        elif options:
            raise ValueError(f"{', '.join(options)}: such options go with a schedule's name, as in schedule='step'.")
        elif not isinstance(schedule, CountingSchedule | None):
            raise ValueError(
                f"LRSchedulerCallback takes a schedule that counts updates, such as StepLR(1e-4), or the name of one "
                f"({', '.join(SCHEDULES)}), not {schedule!r}."
            )
        self.given = schedule
        self.schedule: CountingSchedule | None = None

    def _on_training_start(self) -> None:
        model = self.model
        if isinstance(self.parent, EventCallback):
            raise ValueError(
                f"LRSchedulerCallback counts nothing within {type(self.parent).__name__}, which tells it of steps "
                "alone, not of updates. Give it to learn() beside the other callbacks."
            )
        restart = bool(self.locals.get("reset_num_timesteps", True))
        own = counting_schedule(model.learning_rate)
        # A resumed model brings its count with it: go on from there, not from the start of an equal schedule.
        goes_on = own is not None and not restart and repr(own) == repr(self.given)
        self.schedule = own if self.given is None or goes_on else copy.copy(self.given)
        if self.schedule is None:
            raise ValueError(
                f"LRSchedulerCallback has nothing to count: learning_rate is {model.learning_rate!r}. "
                "Give the callback a schedule, or the algorithm learning_rate=StepLR(...)."
            )
        # Both: SB3 rebuilds lr_schedule from learning_rate when a model is loaded.
        model.learning_rate = self.schedule
        model.lr_schedule = FloatSchedule(self.schedule)
        self._n_updates = model._n_updates
        if self.schedule is not own or not getattr(model, "counts_updates", False):
            total = model._total_timesteps
            steps = self._steps_per_update()
            # As good as: an off-policy run has no updates before learning_starts.
            updates = max(math.ceil((total - getattr(model, "learning_starts", 0)) / (steps or 1)), 1)
            self.schedule.begin(model.num_timesteps, total, updates, restart, steps)

    def _steps_per_update(self) -> int | None:
        """Environment steps between two updates; None where they come after episodes, so that nobody knows."""
        model: Any = self.model
        if isinstance(model, OnPolicyAlgorithm):
            return model.n_steps * model.n_envs
        if isinstance(model, OffPolicyAlgorithm):
            train_freq: Any = model.train_freq  # SB3 turns the number given into a TrainFreq when it sets up
            if not isinstance(train_freq, TrainFreq):
                return int(train_freq) * model.n_envs
            if train_freq.unit is not TrainFrequencyUnit.EPISODE:
                return train_freq.frequency * model.n_envs
        assert self.schedule is not None
        if self.schedule.unit == "updates" and self.schedule.needs_length:
            number = "a step_size in numbers" if isinstance(self.schedule, StepLR) else "a total="
            raise ValueError(
                f"{type(model).__name__} updates after whole episodes here, so nobody knows how many updates the run "
                f"will have: give {type(self.schedule).__name__} {number}, or unit='steps'."
            )
        return None

    def _on_rollout_start(self) -> None:
        self._count()

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self._count()
        if self.schedule is not None and not getattr(self.model, "counts_updates", False):
            self.schedule.counted = False  # a later learn() without this callback is told so

    def _count(self) -> None:
        if self.schedule is None or getattr(self.model, "counts_updates", False):
            return
        if self.model._n_updates != self._n_updates:
            self._n_updates = self.model._n_updates
            kl = approx_kl_of(self.model)
            if kl is None and isinstance(self.schedule, KLAdaptiveLR):
                raise RuntimeError(
                    "KLAdaptiveLR follows the KL of the updates, but this algorithm logs no train/approx_kl. PPO, "
                    "MaskablePPO and RecurrentPPO do; choose another schedule here."
                )
            self.schedule.advance(self.model.num_timesteps, kl)
