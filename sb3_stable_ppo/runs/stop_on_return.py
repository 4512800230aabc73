"""
The end of a run whose agent plays well enough.
"""

from __future__ import annotations

import math
import warnings
from collections import deque
from statistics import fmean

from stable_baselines3.common.callbacks import BaseCallback

from sb3_stable_ppo.common.checks import number, whole_number
from sb3_stable_ppo.common.lazy import public


@public
class StopTrainingOnReturn(BaseCallback):
    """
    Ends training once the mean return of the last episodes reaches a threshold. SB3's
    ``StopTrainingOnRewardThreshold`` needs evaluations for that; here the training's own episodes count.

    >>> model.learn(1_000_000, callback=StopTrainingOnReturn(18.0))  # doctest: +SKIP

    Relies on a Monitor around each env, which puts an episode's return into ``info``, as SB3's own statistics do.

    :param return_threshold: the mean return at which training ends
    :param n_episodes: how many of the last episodes count; all of them must have ended
    :param verbose: SB3's verbosity; 1 says when and why training ends
    :raises ValueError: if ``return_threshold`` is not finite, or ``n_episodes`` no whole number of at least 1
    """

    def __init__(self, return_threshold: float, n_episodes: int = 30, verbose: int = 0) -> None:
        super().__init__(verbose)
        self.return_threshold = number(return_threshold, "return_threshold", -math.inf)
        self.n_episodes = whole_number(n_episodes, "n_episodes", 1)
        self.is_reached = False

    def _on_training_start(self) -> None:
        self.is_reached = False
        self._returns: deque[float] = deque(maxlen=self.n_episodes)
        self._is_warned = False

    def _on_step(self) -> bool:
        ended = [info["episode"]["r"] for info in self.locals["infos"] if "episode" in info]
        self._returns.extend(ended)
        if not self._is_warned and not ended and any(self.locals["dones"]):
            self._is_warned = True
            warnings.warn(
                "An episode has ended without its return in info: StopTrainingOnReturn sees none. "
                "Wrap each env in SB3's Monitor, as make_vec_env does.",
                stacklevel=2,
            )
        if not ended or len(self._returns) < self.n_episodes:
            return True
        mean_return = fmean(self._returns)
        self.is_reached = mean_return >= self.return_threshold
        if self.is_reached and self.verbose > 0:
            print(
                f"The last {self.n_episodes} episodes have a mean return of {mean_return:.4g}, at least "
                f"{self.return_threshold:g}: training ends at step {self.num_timesteps:,}."
            )
        return not self.is_reached
