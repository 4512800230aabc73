"""
The model in ``ExperimentManager.learn``, which counts from zero when it resumes, and tells nobody of an interruption.
"""

from __future__ import annotations

import time
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_stable_ppo.envs.subprocesses import CONNECTION_ERRORS, end_interrupted_step, ended_processes

SIGNAL_TIMEOUT_S = 1.0
"""Ctrl-C reaches the envs' processes too: the end of one may be seen before the signal arrives here."""


class ModelInTraining:
    """
    Stands in for a model in ``ExperimentManager.learn``.

    :param model: to be trained
    :param resumes: whether its count of timesteps goes on
    """

    def __init__(self, model: BaseAlgorithm, resumes: bool) -> None:
        self._model, self._resumes = model, resumes
        self.was_interrupted = False
        """Whether training ended by Ctrl-C or SIGTERM; rl_zoo3 takes that for a wish to save and go on."""

    def learn(self, total_timesteps: int, **kwargs: Any) -> BaseAlgorithm:
        """
        As the model's.

        :raises RuntimeError: if an env's process or connection was lost, and nobody has asked training to stop
        """
        if self._resumes:
            kwargs["reset_num_timesteps"] = False
        try:
            try:
                return self._model.learn(total_timesteps, **kwargs)
            except CONNECTION_ERRORS as error:
                time.sleep(SIGNAL_TIMEOUT_S)
                told = ended_processes(self._model.env) or "an env or a callback has lost a connection"
                raise RuntimeError(
                    f"{type(self._model).__name__} cannot go on at step {self._model.num_timesteps:,}: {told} "
                    f"({type(error).__name__}{f': {error}' if str(error) else ''})."
                ) from error
        except KeyboardInterrupt:
            self.was_interrupted = True
            raise
        finally:
            end_interrupted_step(self._model.env)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)
