"""
How many episodes ended in an env that rl_zoo3 plays.
"""

from __future__ import annotations

from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn


class EpisodeCounter(VecEnvWrapper):
    """
    Counts steps, and the episodes that a ``Monitor`` reports. An Atari episode is a whole game there, not a life.

    :param venv: the env
    """

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv)
        self.n_steps = 0
        self.n_episodes = 0

    def reset(self) -> VecEnvObs:
        """As the env's."""
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """As the env's."""
        observations, rewards, dones, infos = self.venv.step_wait()
        self.n_steps += 1
        self.n_episodes += sum("episode" in info for info in infos)
        return observations, rewards, dones, infos

    def told(self) -> str | None:
        """Why there is no score; None if an episode ended."""
        if self.n_episodes:
            return None
        return f"No episode ended within {self.n_steps:,} steps, so there is no score. Play longer with -n."
