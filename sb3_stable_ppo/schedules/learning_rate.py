"""
Learning-rate schedules in the forms of torch's StepLR and its kin, and how they are made from a name.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import FloatSchedule

from sb3_stable_ppo.common.checks import number, one_of, whole_number
from sb3_stable_ppo.common.lazy import public
from sb3_stable_ppo.schedules.counting import CountingSchedule
from sb3_stable_ppo.schedules.kl_adaptive import KLAdaptiveLR
from sb3_stable_ppo.schedules.step_size import step_to_a_tenth


@public
class StepLR(CountingSchedule):
    """
    ``initial * gamma ** (count // step_size)``, as ``torch.optim.lr_scheduler.StepLR``.

    Mind the arithmetic: with the defaults and 1,024 steps an update, 1% of the learning rate is left after 500,000
    steps. ``step_size="auto"`` ends at a tenth of the start, however long the run is.

    >>> schedule = StepLR(initial=1e-4, step_size=12, gamma=0.9)
    >>> [schedule.value_at(count) for count in (0, 11, 12, 24)]
    [0.0001, 0.0001, 9e-05, 8.1e-05]

    :param initial: the learning rate at the start
    :param step_size: updates (or steps) between two decays; ``auto``: so many that the last update of the first
        ``learn()`` has a tenth of ``initial``, as near as whole steps allow. A later
        ``learn(reset_num_timesteps=False)`` keeps the step
    :param gamma: factor of each decay, in (0, 1]; with ``auto`` below 1
    :param warmup: see :class:`CountingSchedule`
    :param unit: ``updates`` or ``steps``
    :raises ValueError: for a number out of range, or where ``auto`` has a ``gamma`` that leads to no tenth
    """

    fixed_step: int | None = None
    """What ``auto`` is in this run; None before the run's length is known."""

    def __init__(
        self,
        initial: float = 1e-4,
        step_size: int | Literal["auto"] = 12,
        gamma: float = 0.9,
        *,
        warmup: int = 0,
        unit: str = "updates",
    ) -> None:
        super().__init__(initial, warmup=warmup, unit=unit)
        self.step_size: int | Literal["auto"] = (
            "auto" if step_size == "auto" else whole_number(step_size, "step_size", 1, also=" or 'auto'")
        )
        self.gamma = number(gamma, "gamma", high=1.0)
        if self.step_size == "auto" and self.gamma in (0.0, 1.0):
            raise ValueError(
                f"step_size='auto' ends at a tenth of the start, which gamma={self.gamma:g} never comes to: "
                "give a gamma between 0 and 1, such as 0.9."
            )

    @property
    def needs_length(self) -> bool:
        return self.step_size == "auto" and self.fixed_step is None

    def fix_length(self, total: int, last: int, restart: bool) -> None:  # noqa: ARG002
        if self.step_size == "auto" and (self.fixed_step is None or restart):
            self.fixed_step = step_to_a_tenth(last + 1 - self.warmup, self.gamma)

    def decay(self, count: int) -> float:
        step = self.fixed_step if self.step_size == "auto" else self.step_size
        return self.initial if step is None else self.initial * self.gamma ** (count // step)


@public
class WarmupLR(CountingSchedule):
    """
    Rises in ``warmup`` equal steps to ``initial`` and stays there.

    :param initial: the learning rate after the warm-up
    :param warmup: updates (or steps) of the rise
    :param unit: ``updates`` or ``steps``
    """

    def __init__(self, initial: float = 1e-4, warmup: int = 10, *, unit: str = "updates") -> None:
        super().__init__(initial, warmup=warmup, unit=unit)

    def decay(self, count: int) -> float:  # noqa: ARG002
        return self.initial


class _ToFinal(CountingSchedule):
    """
    Base of the schedules that go from ``initial`` to ``final`` over ``total`` counts and stay there. Each has the
    arguments in its own docstring.
    """

    def __init__(
        self,
        initial: float = 1e-4,
        final: float = 0.0,
        total: int | None = None,
        *,
        warmup: int = 0,
        unit: str = "updates",
    ) -> None:
        super().__init__(initial, warmup=warmup, unit=unit)
        self.final = number(final, "final")
        self.total = None if total is None else whole_number(total, "total", 1)
        self.length = self.total

    advice = "Give it a longer total=, or a final= above 0."

    @property
    def needs_length(self) -> bool:
        return self.length is None

    def fix_length(self, total: int, last: int, restart: bool) -> None:  # noqa: ARG002
        if self.total is None and (self.length is None or restart):
            self.length = total

    def share_done(self, count: int) -> float:
        """From 0 to 1 over the schedule's length."""
        if self.length is None:
            return 0.0
        return min(count / max(self.length - self.warmup, 1), 1.0)


@public
class LinearLR(_ToFinal):
    """
    From ``initial`` to ``final`` in a straight line.

    >>> schedule = LinearLR(initial=1.0, final=0.5, total=10)
    >>> [schedule.value_at(count) for count in (0, 5, 10, 99)]
    [1.0, 0.75, 0.5, 0.5]

    :param initial: the learning rate at the start
    :param final: the learning rate at the end, which it keeps
    :param total: length in updates (or steps), warm-up included; None: that of the first ``learn()``, which a later
        ``learn(reset_num_timesteps=False)`` does not stretch
    :param warmup: see :class:`CountingSchedule`
    :param unit: ``updates`` or ``steps``
    """

    def decay(self, count: int) -> float:
        return self.initial + (self.final - self.initial) * self.share_done(count)


@public
class CosineLR(_ToFinal):
    """
    From ``initial`` to ``final`` along half a cosine (https://arxiv.org/abs/1608.03983, without its restarts).

    >>> schedule = CosineLR(initial=1.0, final=0.0, total=10)
    >>> [round(schedule.value_at(count), 3) for count in (0, 5, 10)]
    [1.0, 0.5, 0.0]

    :param initial: the learning rate at the start
    :param final: the learning rate at the end, which it keeps
    :param total: length in updates (or steps), warm-up included; None: that of the first ``learn()``, which a later
        ``learn(reset_num_timesteps=False)`` does not stretch
    :param warmup: see :class:`CountingSchedule`
    :param unit: ``updates`` or ``steps``
    """

    def decay(self, count: int) -> float:
        return self.final + (self.initial - self.final) * (1 + math.cos(math.pi * self.share_done(count))) / 2


SCHEDULES: dict[str, type[CountingSchedule]] = {
    "step": StepLR,
    "linear": LinearLR,
    "cosine": CosineLR,
    "warmup": WarmupLR,
    "kl_adaptive": KLAdaptiveLR,
}


def make_schedule(schedule: str, **options: Any) -> CountingSchedule:
    """
    A schedule by its name, as YAML gives it.

    >>> make_schedule("step", initial="1e-4", step_size=12)
    StepLR(initial=0.0001, warmup=0, unit='updates', step_size=12, gamma=0.9)

    :param schedule: ``step``, ``linear``, ``cosine``, ``warmup`` or ``kl_adaptive``
    :param options: the arguments of its class
    :raises ValueError: for an unknown name or argument, listing the choices
    """
    name = one_of(schedule, SCHEDULES, "schedule")
    try:
        return SCHEDULES[name](**options)
    except TypeError as error:
        raise ValueError(f"Schedule {schedule!r}: {error}.") from error


def read_learning_rate(learning_rate: Any) -> Any:
    """
    A learning rate as users write it.

    >>> read_learning_rate({"schedule": "step", "initial": 1e-4, "step_size": 12})
    StepLR(initial=0.0001, warmup=0, unit='updates', step_size=12, gamma=0.9)

    :param learning_rate: a number, a schedule, or a dict as it stands in YAML
    :return: the schedule that a dict describes; all else as given
    :raises ValueError: for a class in place of a schedule, or a dict that describes none
    """
    if isinstance(learning_rate, type):
        name = learning_rate.__name__
        raise ValueError(f"learning_rate is the class {name}: give a schedule that it makes, such as {name}(1e-4).")
    if not isinstance(learning_rate, dict):
        return learning_rate
    if "schedule" not in learning_rate:
        raise ValueError(f"learning_rate is {learning_rate}, without schedule: {', '.join(SCHEDULES)}.")
    return make_schedule(**learning_rate)


def counting_schedule(learning_rate: Any) -> CountingSchedule | None:
    """The counting schedule within ``learning_rate``, if it is one, bare or as SB3 wraps it."""
    if isinstance(learning_rate, FloatSchedule):
        learning_rate = learning_rate.value_schedule
    return learning_rate if isinstance(learning_rate, CountingSchedule) else None


def approx_kl_of(model: BaseAlgorithm) -> float | None:
    """The KL that a model's last update logged, the mean over its last epoch; None where it logs none."""
    kl = logged_kl(model)
    return None if kl is None else float(kl)


def logged_kl(model: BaseAlgorithm) -> Any:
    """The same as the object that was logged, which is another one after each update."""
    return model.logger.name_to_value.get("train/approx_kl")
