"""
The model in ``ExperimentManager.learn``, which counts from zero when it resumes, and tells nobody of an interruption.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_stable_ppo.common.signals import interrupted_by
from sb3_stable_ppo.envs.subprocesses import CONNECTION_ERRORS, end_interrupted_step, ended_processes
from sb3_stable_ppo.zoo.checkpointing import Signals, checkpoint_of

SIGNAL_TIMEOUT_S = 1.0
"""Ctrl-C reaches the envs' processes too: the end of one may be seen before the signal arrives here."""


class ModelInTraining:
    """
    Stands in for a model in ``ExperimentManager.learn``.

    :param model: to be trained
    :param resumes: whether its count of timesteps goes on
    :param ends_at: of a run that goes on from a checkpoint, the steps at which it ends; None: it trains as many steps
        as ``learn()`` is asked for
    :param arguments: further ones of ``learn()``, before those it is given
    """

    def __init__(
        self,
        model: BaseAlgorithm,
        resumes: bool,
        ends_at: int | None = None,
        arguments: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self._model, self._resumes, self._ends_at, self._arguments = model, resumes, ends_at, arguments
        self.interrupted_by: signal.Signals | None = None
        """The signal that ended training; rl_zoo3 takes it for a wish to save and go on."""

    def learn(self, total_timesteps: int, **kwargs: Any) -> BaseAlgorithm:
        """
        As the model's. SIGTERM and Ctrl-C end it at the next checkpoint.

        :raises KeyboardInterrupt: at SIGTERM and Ctrl-C
        :raises RuntimeError: if an env's process or connection was lost, and nobody has asked training to stop
        """
        if self._resumes:
            kwargs["reset_num_timesteps"] = False
        if self._ends_at is not None:
            total_timesteps = self._ends_at - self._model.num_timesteps
        kwargs.update(self._arguments)
        checkpoint = checkpoint_of(kwargs.get("callback", ()))
        signals = Signals(checkpoint)
        try:
            try:
                with signals.handled():
                    return self._model.learn(total_timesteps, **kwargs)
            except CONNECTION_ERRORS as error:
                time.sleep(SIGNAL_TIMEOUT_S)
                if signals.stopped_by is not None:
                    raise KeyboardInterrupt from error
                told = ended_processes(self._model.env) or "an env or a callback has lost a connection"
                raise RuntimeError(
                    f"{type(self._model).__name__} cannot go on at step {self._model.num_timesteps:,}: {told} "
                    f"({type(error).__name__}{f': {error}' if str(error) else ''})."
                ) from error
        except BaseException as error:
            if checkpoint is not None:
                checkpoint.close()  # rl_zoo3 tells a callback that training has ended, whatever ended it
            if isinstance(error, KeyboardInterrupt):
                self.interrupted_by = signals.stopped_by or interrupted_by()
            raise
        finally:
            end_interrupted_step(self._model.env)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)
