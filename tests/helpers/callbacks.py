"""Callbacks that configurations name by their dotted path."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from sb3_stable_ppo import CollapseError


def collapse_at_48(_: Any, step: int) -> None:
    if step >= 48:
        raise CollapseError("every layer is dark")


class CollapseCallback(BaseCallback):
    """Raises CollapseError at step 48; from YAML by its dotted path."""

    def _on_step(self) -> bool:
        collapse_at_48(None, self.num_timesteps)
        return True


class StopsAtOnce(BaseCallback):
    """Ends training in its first step; from YAML by its dotted path."""

    def _on_step(self) -> bool:
        return False


class InterruptCallback(BaseCallback):
    """Ctrl-C at step 48."""

    def _on_step(self) -> bool:
        if self.num_timesteps >= 48:
            raise KeyboardInterrupt
        return True


class Notes(BaseCallback):
    """What the models of trials are; from YAML by its dotted path."""

    seen: list[tuple[Any, ...]] = []  # noqa: RUF012  # rl_zoo3 makes a callback for each trial

    def _on_training_start(self) -> None:
        assert isinstance(self.model, PPO)
        widths = [
            layer.out_features for layer in self.model.policy.mlp_extractor.policy_net if hasattr(layer, "out_features")
        ]
        self.seen.append((type(self.model).__name__, widths[:1], type(self.model.lr_schedule).__name__))

    def _on_step(self) -> bool:
        return True


class Collapse(BaseCallback):
    """Half way, a network collapses; from YAML by its dotted path."""

    def _on_step(self) -> bool:
        if self.num_timesteps >= 256:
            raise CollapseError("every layer is dark")
        return True


class Broken(BaseCallback):
    """Fails as a broken environment does; from YAML by its dotted path."""

    def _on_step(self) -> bool:
        raise ValueError("no such wall")


class TerminatedAtTheEnd(BaseCallback):
    """SIGTERM comes when all steps are done, before the last update."""

    def _on_rollout_end(self) -> None:
        if self.num_timesteps >= 128:
            os.kill(os.getpid(), signal.SIGTERM)

    def _on_step(self) -> bool:
        return True


class Slow(BaseCallback):
    """So that there is time to kill."""

    def _on_step(self) -> bool:
        time.sleep(0.03)
        return True


class FailsOnce(BaseCallback):
    """
    Breaks a run off at a step, as a ``kill`` does, but not the run that goes on; from YAML by its dotted path.

    :param at: environment steps
    :param mark: a file that tells of the failure
    """

    def __init__(self, at: int, mark: str) -> None:
        super().__init__()
        self.at, self.mark = at, Path(mark)

    def _on_step(self) -> bool:
        if self.num_timesteps >= self.at and not self.mark.exists():
            self.mark.touch()
            raise RuntimeError("the machine is gone")
        return True

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class SignalOnce(FailsOnce):
    """
    The same, but a signal comes within a rollout.

    :param number: of the signal
    """

    def __init__(self, at: int, mark: str, number: int) -> None:
        super().__init__(at, mark)
        self.number = number

    def _on_step(self) -> bool:
        if self.num_timesteps >= self.at and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), self.number)
        return True


class SignalInOneSeed(SignalOnce):
    """
    The same, in the run of one seed.

    :param seed: of the run
    """

    def __init__(self, at: int, mark: str, number: int, seed: int) -> None:
        super().__init__(at, mark, number)
        self.seed = seed

    def _on_step(self) -> bool:
        return self.model.seed != self.seed or super()._on_step()


class Pauses(BaseCallback):
    """Takes its time between updates; a checkpoint keeps its nothing."""

    def _on_rollout_end(self) -> None:
        time.sleep(0.02)

    def _on_step(self) -> bool:
        return True

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass
