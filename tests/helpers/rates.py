"""The learning rates that a run uses."""

from typing import Any

import torch as th
from stable_baselines3.common.callbacks import BaseCallback

SMALL: dict[str, Any] = {"n_steps": 8, "batch_size": 16, "n_epochs": 2, "seed": 0}
UPDATE = 16  # environment steps between two updates: 8 steps in 2 envs


class RateRecorder(BaseCallback):
    """The rate that the optimizer used in each update, and the rate that was logged for it."""

    def __init__(self) -> None:
        super().__init__()
        self.used: list[float] = []
        self.logged: list[float] = []

    def _on_training_start(self) -> None:
        optimizer = self.model.policy.optimizer
        self.handle = optimizer.register_step_pre_hook(lambda opt, *_: self._record(opt))
        self.n_updates = -1

    def _record(self, optimizer: th.optim.Optimizer) -> None:
        rate = optimizer.param_groups[0]["lr"]
        if self.n_calls != self.n_updates:
            self.n_updates = self.n_calls
            self.used.append(rate)
            self.logged.append(self.logger.name_to_value["train/learning_rate"])
        assert rate == self.used[-1]

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self.handle.remove()
