"""AdamReset: Adam begins anew with each new objective."""

from __future__ import annotations

import math
import warnings
from typing import Any, ClassVar

import torch as th
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit

from sb3_stable_ppo.common.checks import one_of
from sb3_stable_ppo.common.lazy import public
from sb3_stable_ppo.interventions.base import Intervention

RESETS = ("relative", "full")
SLOW = 0.5
"""A mean step of less than this share of the learning rate is worth a warning."""


def mean_step_multiplier(steps: int, betas: tuple[float, float]) -> float:
    """
    How long Adam's steps are on average after its count was set to 0 and its moments were kept, as a share of what they
    are long after: the mean of ``sqrt(1 - beta_2**t) / (1 - beta_1**t)``, for gradients that stay alike.

    >>> round(mean_step_multiplier(16, (0.9, 0.999)), 2), round(mean_step_multiplier(320, (0.9, 0.999)), 2)
    (0.18, 0.37)

    :param steps: between two resets
    :param betas: Adam's
    """
    first, second = betas
    known = min(steps, math.ceil(20 / (1 - max(betas))))  # later steps are as long as without a reset
    total = math.fsum(math.sqrt(1 - second**t) / (1 - first**t) for t in range(1, known + 1))
    return (total + steps - known) / steps


@public
class AdamReset(Intervention):
    """
    Sets Adam's step count to 0 before each update, off-policy after each copy of the target network: there the
    objective is a new one, to which its bias correction had long ceased to apply ("Adam-Rel",
    https://arxiv.org/abs/2412.17113).

    ``relative`` keeps the moments, and is the better of the two in the paper, for PPO and for DQN. ``full`` clears them
    too. Few steps between two resets make short steps: with 16 the mean step is 0.18 of the learning rate, so the
    learning rate has to rise. A warning states the number for the run.

    :param reset: ``relative`` or ``full``
    :param when: ``{"every_updates": N}`` or ``{"on_alarm": name}``; None: each update, of DQN and QR-DQN each copy of
        the target network
    :param verbose: SB3's verbosity
    :raises ValueError: for an unknown reset; when training starts, for another optimizer than Adam, or without ``when``
        for an algorithm that has neither rollouts nor copies of a target
    """

    kinds: ClassVar[tuple[str, ...]] = ("every_updates", "on_alarm")

    def __init__(self, reset: str = "relative", when: Any = None, verbose: int = 0) -> None:
        super().__init__({"every_updates": 1} if when is None else when, verbose)
        self.reset = one_of(reset, RESETS, "reset")
        self._at_copies = when is None
        self._n_copies = 0

    def check(self) -> None:
        for learner in self.learners:
            if not isinstance(learner.optimizer, (th.optim.Adam, th.optim.AdamW)):
                raise ValueError(
                    f"AdamReset resets Adam and AdamW; {type(self.model).__name__} here trains with "
                    f"{type(learner.optimizer).__name__}. Choose policy_kwargs={{'optimizer_class': "
                    "torch.optim.Adam}, for A2C use_rms_prop=False, or leave AdamReset out."
                )
        if isinstance(self.model, OffPolicyAlgorithm) and self._at_copies and self._copies() is None:
            raise ValueError(
                f"AdamReset resets after each copy of a target network, and {type(self.model).__name__} moves its own "
                "a little at each step. Say when: AdamReset(when={'every_updates': 1000})."
            )

    def begin(self) -> None:
        self._n_copies = self._copies() or 0
        if self.trigger.kind != "every_updates" or (steps := self._steps_between_resets()) is None:
            return
        multiplier = mean_step_multiplier(steps, self.learners[0].optimizer.param_groups[0]["betas"])
        if self.reset == "relative" and multiplier < SLOW:
            warnings.warn(
                f"AdamReset sets Adam's step count to 0 every {steps} steps, which makes the mean step "
                f"{multiplier:.2f} of the learning rate: raise it, up to {1 / multiplier:.1f} times.",
                stacklevel=2,
            )

    def _copies(self) -> int | None:
        """How many times the target network was copied so far; None where it is not."""
        model: Any = self.model
        interval = getattr(model, "target_update_interval", None)
        if interval is None or getattr(model, "tau", None) != 1.0 or not hasattr(model, "_n_calls"):
            return None
        return int(model._n_calls // max(interval // model.n_envs, 1))

    def _steps_between_resets(self) -> int | None:
        """Steps of the optimizer; None where nobody knows."""
        model: Any = self.model
        if not isinstance(model, OffPolicyAlgorithm):
            rows = model.n_steps * model.n_envs
            each = getattr(model, "n_epochs", 1) * math.ceil(rows / (getattr(model, "batch_size", None) or rows))
            return int(each * self.trigger.number)
        if model.gradient_steps < 1:
            return None
        if not self._at_copies:
            return int(model.gradient_steps * self.trigger.number)
        every: Any = model  # DQN and its kind, whose train_freq is a TrainFreq once they are set up
        frequency = every.train_freq
        if isinstance(frequency, TrainFreq):
            if frequency.unit is TrainFrequencyUnit.EPISODE:
                return None
            frequency = frequency.frequency
        return int(max(every.target_update_interval // (frequency * every.n_envs) * every.gradient_steps, 1))

    def before_update(self) -> None:
        """DQN copies its target while it collects: the next step is the first on the new objective."""
        if self._at_copies and isinstance(self.model, OffPolicyAlgorithm):
            before, self._n_copies = self._n_copies, self._copies() or 0
            if self._n_copies != before:
                self.memory.update(is_due=str(self.trigger), due_at=self.model._n_updates)
                with th.no_grad():
                    self._act()

    def _is_due(self, count: int) -> bool:
        return not (self._at_copies and isinstance(self.model, OffPolicyAlgorithm)) and super()._is_due(count)

    def act(self) -> None:
        for learner in self.learners:
            for state in learner.optimizer.state.values():
                for name, value in state.items():
                    if isinstance(value, th.Tensor) and (name == "step" or self.reset == "full"):
                        value.zero_()
