"""
A learning rate that follows how far the updates move the policy.
"""

from __future__ import annotations

from sb3_stable_ppo.common.checks import number
from sb3_stable_ppo.common.lazy import public
from sb3_stable_ppo.schedules.counting import CountingSchedule


@public
class KLAdaptiveLR(CountingSchedule):
    """
    Divided by ``factor`` after an update whose KL was above twice ``target``, multiplied by it after one below half of
    ``target``, and never outside ``low`` and ``high``. The rule is rsl_rl's and rl_games', but once an update: from
    SB3's ``train/approx_kl``, the mean over the update's last epoch. Single minibatches are noise
    (rl_games' documentation, torchrl#1922).

    By default it never rises above its start. A rate that may rise follows noise up to its bound while nothing has
    been learnt yet. Where ``StablePPO`` undoes an update, it halves this rate, in place of the guards' own scale.

    >>> schedule = KLAdaptiveLR(initial=1e-3, target=0.01, factor=2)
    >>> for kl in (0.05, 0.015, 0.05, 0.001):
    ...     schedule.advance(0, kl)
    ...     print(schedule.value_at(schedule.count))
    0.0005
    0.0005
    0.00025
    0.0005

    :param initial: the learning rate at the start
    :param target: the KL that an update should come to
    :param factor: of each change, above 1
    :param low: never below this; None: a hundredth of ``initial``
    :param high: never above this; None: ``initial``
    :param warmup: this many updates at the start rise in equal steps towards ``initial``, whatever their KL
    :raises ValueError: for a number out of range
    """

    def __init__(
        self,
        initial: float = 2.5e-4,
        target: float = 0.01,
        factor: float = 1.5,
        low: float | None = None,
        high: float | None = None,
        *,
        warmup: int = 0,
    ) -> None:
        super().__init__(initial, warmup=warmup)
        self.target = number(target, "target")
        self.factor = number(factor, "factor")
        self.low = self.initial / 100 if low is None else number(low, "low")
        self.high = self.initial if high is None else number(high, "high")
        if self.initial == 0:
            raise ValueError("initial must be above 0: a learning rate of 0 cannot be multiplied to another.")
        if self.target == 0:
            raise ValueError("target must be above 0: no update leaves the policy exactly where it was.")
        if self.factor <= 1:
            raise ValueError(f"factor must be above 1, not {self.factor:g}: the rate is divided and multiplied by it.")
        if not self.low <= self.initial <= self.high:
            raise ValueError(
                f"initial must lie between low and high: {self.initial:g} is not within {self.low:g} and {self.high:g}."
            )
        self.rate = self.initial

    def value_at(self, count: int) -> float:
        """
        As :class:`CountingSchedule` has it, but the warm-up rises to the rate that undone updates have left.

        :param count: updates done before
        """
        return self.rate * (count + 1) / (self.warmup + 1) if count < self.warmup else self.rate

    def decay(self, count: int) -> float:  # noqa: ARG002  # it follows the KL, not the count
        return self.rate

    def fix_length(self, total: int, last: int, restart: bool) -> None:  # noqa: ARG002  # it has none
        if restart:
            self.rate = self.initial

    def early_end(self, total: int) -> None:  # the rate may rise again
        """None: it follows the KL, and never ends."""

    def advance(self, num_timesteps: int, kl: float | None = None) -> None:
        """
        Count one update, and follow its KL.

        :param num_timesteps: the model's environment steps so far
        :param kl: the update's; NaN counts as too large. None, of an update that broke off before SB3 logged it,
            leaves the rate as it is
        """
        if kl is not None and self.count >= self.warmup:
            if not kl <= 2 * self.target:
                self.lower(self.factor)
            elif kl < self.target / 2:
                self.rate = min(self.rate * self.factor, self.high)
        super().advance(num_timesteps, kl)

    def lower(self, factor: float) -> float:
        """
        Divide the rate, but not below ``low``.

        :param factor: by which
        :return: by how much less than ``factor`` it was divided: 1 where ``low`` did not stop it
        """
        wanted = self.rate / factor
        self.rate = max(wanted, self.low)
        return self.rate / wanted
