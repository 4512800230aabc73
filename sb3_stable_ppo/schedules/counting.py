"""
The base of learning-rate schedules that count updates or environment steps.

SB3 sets the optimizer's learning rate anew in each ``train()`` from ``schedule(progress_remaining)``, and calls the
schedule twice to do so. So a torch scheduler on the optimizer is undone, and a count inside ``__call__`` runs at double
speed. Here ``__call__`` changes nothing. The count lives in the schedule, advances once per ``train()``, is saved with
the model, and goes on exactly after ``load`` and ``learn(reset_num_timesteps=False)``.

Stock algorithms pass a schedule nothing but the remaining progress, so something has to count. ``StablePPO`` does it by
itself, ``LRSchedulerCallback`` does it for every other SB3 algorithm. Without either, the first ``train()`` raises an
error that says so.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, ClassVar

from sb3_stable_ppo.common.checks import number, one_of, whole_number

UNITS = ("updates", "steps")


class CountingSchedule:
    """
    Base of the schedules: a value that depends on how many updates (or environment steps) have been done.

    :param initial: the learning rate at the start, or at the end of the warm-up
    :param warmup: this many counts at the start rise in equal steps towards ``initial``
    :param unit: what is counted: ``updates`` (one is one ``train()``) or environment ``steps``
    :raises ValueError: for an unknown unit or a number outside its range
    """

    def __init__(self, initial: float = 1e-4, *, warmup: int = 0, unit: str = "updates") -> None:
        self.initial = number(initial, "initial")
        self.warmup = whole_number(warmup, "warmup")
        self.unit = one_of(unit, UNITS, "unit")
        self.count = 0
        self.counted = False
        """Whether something advances the count in this process; not saved."""

    advice: ClassVar[str] = "Raise step_size or gamma."
    """What to do when the value falls to nearly 0 too early; the end of a warning."""

    @property
    def needs_length(self) -> bool:
        """Whether the schedule ends with a run whose length it does not know yet."""
        return False

    def decay(self, count: int) -> float:
        """
        The value ``count`` updates (or steps) after the warm-up, without side effects.

        :param count: 0 for the first update after the warm-up
        """
        raise NotImplementedError

    def value_at(self, count: int) -> float:
        """
        The value used in the update that comes after ``count`` others, without side effects.

        :param count: updates (or steps) done before
        """
        if count < self.warmup:
            return self.initial * (count + 1) / (self.warmup + 1)
        return max(self.decay(count - self.warmup), 0.0)

    def __call__(self, progress_remaining: float) -> float:
        """
        The learning rate now. ``progress_remaining`` is not used: it overshoots below zero in a run's last rollout and
        jumps when ``learn`` is called again.

        :param progress_remaining: SB3's progress, 1 before training
        :raises RuntimeError: in training, if nothing counts the updates
        """
        if progress_remaining < 1.0 and not self.counted:
            raise RuntimeError(
                f"{self!r} counts {self.unit}, but nothing counts them here: SB3 passes a schedule only the remaining "
                "progress. Use it as learning_rate of StablePPO, or of any algorithm with LRSchedulerCallback() among "
                "the callbacks of learn()."
            )
        return self.value_at(self.count)

    def begin(
        self, start: int, total_timesteps: int, total_updates: int, restart: bool, steps_per_update: int | None = 1
    ) -> None:
        """
        Called at the start of ``learn()``, before the first rollout.

        :param start: the model's environment steps so far
        :param total_timesteps: the timestep at which this ``learn()`` ends
        :param total_updates: how many updates the model will have done by then
        :param restart: a new run (``reset_num_timesteps=True``): the count starts at 0
        :param steps_per_update: environment steps of a rollout, in all envs together; None: nobody knows
        """
        self.counted = True
        if restart:
            self.count = 0
        elif self.unit == "steps":
            self.count = start
        rollouts = math.ceil((total_timesteps - start) / (steps_per_update or 1))
        if self.unit == "updates":  # fewer than total_updates where this schedule is new and the model is not
            total = min(self.count + rollouts, total_updates)
            last = total - 1
        else:
            total = total_timesteps
            last = start + (rollouts - 1) * (steps_per_update or 1)
        self.fix_length(total, last, restart)
        if self.value_at(self.count) == 0.0:
            warnings.warn(f"{self!r} is at its end: the learning rate is 0. {self.advice}", stacklevel=2)
            return
        early_end = None if self.unit == "updates" and steps_per_update is None else self.early_end(total)
        if early_end is not None:
            step = start + round((early_end - self.count) / (total - self.count) * (total_timesteps - start))
            warnings.warn(
                f"{self!r} falls below a thousandth of its start after {step:,} of {total_timesteps:,} steps and "
                f"learns next to nothing from there on. {self.advice}",
                stacklevel=2,
            )

    def fix_length(self, total: int, last: int, restart: bool) -> None:
        """
        Learn how long the run is; for schedules that end with it.

        :param total: the count at the end of this ``learn()``
        :param last: the count in the run's last update
        :param restart: whether a new run starts
        """

    def early_end(self, total: int) -> int | None:
        """
        The count from which the value stays below a thousandth of ``initial``, if more than the last hundredth of the
        run comes after it (each schedule that ends at zero crosses that line at its very end).

        :param total: the count at the end of this ``learn()``
        """
        low, high = max(self.warmup, self.count), total
        if high <= low or self.value_at(high - 1) >= self.initial / 1000:
            return None
        while low < high:  # the value does not rise after the warm-up, so bisection finds the crossing
            middle = (low + high) // 2
            if self.value_at(middle) < self.initial / 1000:
                high = middle
            else:
                low = middle + 1
        return low if low < 0.99 * total else None

    def advance(self, num_timesteps: int, kl: float | None = None) -> None:  # noqa: ARG002  # KLAdaptiveLR's
        """
        Count one update. Called once after each ``train()``.

        :param num_timesteps: the model's environment steps so far
        :param kl: the update's ``train/approx_kl``; None where it logged none
        """
        self.count = self.count + 1 if self.unit == "updates" else num_timesteps

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "counted": False}

    def __repr__(self) -> str:
        hidden = {"count", "counted", "length", "fixed_step", "rate"}
        words = ", ".join(f"{name}={value!r}" for name, value in self.__dict__.items() if name not in hidden)
        return f"{type(self).__name__}({words})"
