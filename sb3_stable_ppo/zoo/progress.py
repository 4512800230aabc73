"""
How a run goes, told on the terminal while it trains: the return and the layers, a line at a time.
"""

from __future__ import annotations

from collections import deque
from statistics import fmean
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from tqdm import tqdm

from sb3_stable_ppo.runs.folder import RunReader

LINES = 40
"""Lines of a run that trains to its end."""
N_EPISODES = 30


class ProgressLines(BaseCallback):
    """
    Prints a line now and then, above the progress bar: step, mean return of the last episodes, live units by layer.

    :param folder: of the run, whose ``health.jsonl`` tells of the layers; without a HealthCallback there are none
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self._folder = folder

    def _on_training_start(self) -> None:
        self._returns: deque[float] = deque(maxlen=N_EPISODES)
        begun = self.model.num_timesteps
        self._every = max((int(self.locals["total_timesteps"]) - begun) // LINES, 1)
        self._next, self._written = begun + self._every, begun

    def _on_step(self) -> bool:
        self._returns.extend(info["episode"]["r"] for info in self.locals["infos"] if "episode" in info)
        return True

    def _on_rollout_start(self) -> None:
        """After an update, which the HealthCallback before this one has measured."""
        if self.num_timesteps >= self._next:
            self._write()

    def _on_training_end(self) -> None:
        if self.num_timesteps > self._written:
            self._write()

    def _write(self) -> None:
        self._next, self._written = self.num_timesteps + self._every, self.num_timesteps
        lines = [*RunReader(self._folder).health()]
        tqdm.write(progress_line(self.num_timesteps, self._returns, lines[-1] if lines else {}))


def progress_line(step: int, returns: deque[float], health: dict[str, Any]) -> str:
    """
    >>> health = {"layers": {"conv1": {"live": 32, "units": 32}, "pi.fc1": {"live": 500, "units": 512}}}
    >>> progress_line(10_240, deque([-20.0, -21.0]), health)
    'step    10,240   return  -20.5 (2 episodes)   live: conv1 32/32, pi.fc1 500/512'

    :param step: environment steps so far
    :param returns: of the last episodes
    :param health: the last line of ``health.jsonl``
    """
    told = f"{fmean(returns):6.1f} ({len(returns)} episode{'s' * (len(returns) != 1)})" if returns else "none yet"
    layers = [f"{name} {layer['live']:.0f}/{layer['units']}" for name, layer in health.get("layers", {}).items()]
    return f"step {step:>9,}   return {told}{'   live: ' if layers else ''}{', '.join(layers)}"
