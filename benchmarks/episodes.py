"""What every benchmark of learning looks at: when episodes ended, and with which return."""

from __future__ import annotations

from stable_baselines3.common.callbacks import BaseCallback


class Episodes(BaseCallback):
    """Step and return of each episode that has ended, as the env's Monitor reports it."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: list[tuple[int, float]] = []

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "episode" in info:
                self.ended.append((self.num_timesteps, info["episode"]["r"]))
        return True
