"""Callbacks that configurations name by their dotted path."""

import os
import signal
import time
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
