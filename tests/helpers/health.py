"""Models to watch, the lines that HealthCallback writes, and a callback that breaks a network."""

from pathlib import Path
from typing import Any

from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from helpers.envs import make_cartpole, make_pong
from sb3_stable_ppo import StablePongPolicy, StablePPO
from sb3_stable_ppo.runs.folder import RunReader

SMALL: dict[str, Any] = {"n_steps": 32, "batch_size": 64, "n_epochs": 1, "seed": 0}


def cartpole_model(cls: Any = PPO, **options: Any) -> Any:
    return cls("MlpPolicy", make_cartpole(), **{**SMALL, **options})


def pong_model(**options: Any) -> StablePPO:
    return StablePPO(StablePongPolicy, make_pong(), **{**SMALL, **options})


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return list(RunReader(folder).health())


class Break(BaseCallback):
    """From a step on, a layer puts out one value whatever it sees: what an update gone wrong would leave."""

    def __init__(self, layer: str, at: int, value: float) -> None:
        super().__init__()
        self.layer, self.at, self.value = layer, at, value

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self.num_timesteps >= self.at:
            layer: Any = self.model.policy.get_submodule(self.layer)
            layer.weight.data.fill_(0 * self.value)
            layer.bias.data.fill_(self.value)
