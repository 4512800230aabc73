"""Callbacks that read what an update logged, and break what it gets."""

from typing import Any

from stable_baselines3.common.callbacks import BaseCallback


class Logged(BaseCallback):
    """What each update logged, read before the next rollout clears it."""

    def __init__(self) -> None:
        super().__init__()
        self.updates: list[dict[str, Any]] = []

    def _remember(self) -> None:
        values = {k: v for k, v in self.logger.name_to_value.items() if k.startswith(("train/", "guards/", "norm/"))}
        if values:
            self.updates.append(values)

    def _on_rollout_start(self) -> None:
        self._remember()

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self._remember()


class Corrupt(BaseCallback):
    """Puts given values into the rollout's arrays."""

    def __init__(self, **values: Any) -> None:
        super().__init__()
        self.values = values

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        for name, (index, value) in self.values.items():
            getattr(self.model.rollout_buffer, name)[index] = value
