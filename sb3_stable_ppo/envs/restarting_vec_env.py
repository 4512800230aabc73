"""
SB3's ``SubprocVecEnv`` whose workers may die or hang: training goes on with a new one.
"""

from __future__ import annotations

import multiprocessing as mp
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import SubprocVecEnv
from stable_baselines3.common.vec_env.base_vec_env import CloudpickleWrapper, VecEnvObs, VecEnvStepReturn

from sb3_stable_ppo.common.checks import number, one_of, whole_number
from sb3_stable_ppo.envs.forkserver import preload_forkserver
from sb3_stable_ppo.envs.restart_limit import RestartLimit
from sb3_stable_ppo.envs.worker import END_S, Worker
from sb3_stable_ppo.envs.worker_link import WorkerLink


class RestartingVecEnv(SubprocVecEnv):
    """
    A ``SubprocVecEnv`` that outlives its workers. It gives the same observations and rewards while nobody dies.

    A worker dies if its process ends, if it gives no answer within ``timeout``, or if ``step`` or ``reset`` of its env
    raises an exception. Its episode then ends as truncated, with a reward of 0: ``terminal_observation`` is the last
    observation that arrived, and ``worker_restarted`` in the info is the cause in words. A new process makes
    the env anew, with what ``set_attr`` has set, and resets it with a seed that follows from its seed, its index and
    the number of its restarts. There is no ``episode`` in that info, since SB3's ``Monitor`` was in the worker and a
    part of an episode has no return; ``VecMonitor`` reports the part. The file of ``Monitor`` goes on.

    Workers leave SIGINT, SIGTERM and SIGUSR1 to the main process, which may have an update to finish.

    What a method or an attribute of an env raises is raised here, as in ``DummyVecEnv``, and the worker goes on. What
    ``env_method`` has changed in an env is lost with its process.

    :param env_fns: each makes an env
    :param start_method: ``forkserver``, ``spawn`` or ``fork``; None: ``forkserver`` where there is one, else ``spawn``
    :param timeout: seconds that a worker may take for a step, a reset or anything else; None: for ever
    :param max_restarts: the next death after so many, of all workers, within ``window_minutes`` ends the run
    :param window_minutes: minutes; ``inf``: all the time
    :raises ValueError: for a number out of range or an unknown start method
    :raises RuntimeError: if a worker dies before its env has given a first observation, or once too often; the message
        has the worker's own traceback
    """

    def __init__(
        self,
        env_fns: list[Callable[[], gym.Env[Any, Any]]],
        start_method: str | None = None,
        *,
        timeout: float | None = 300.0,
        max_restarts: int = 10,
        window_minutes: float = 10.0,
    ) -> None:
        methods = mp.get_all_start_methods()
        if start_method is None:
            start_method = "forkserver" if "forkserver" in methods else "spawn"
        context = mp.get_context(one_of(start_method, methods, "start_method"))
        if start_method == "forkserver":
            preload_forkserver()
        timeout = None if timeout is None else number(timeout, "timeout", 1e-3)
        window_minutes = number(window_minutes, "window_minutes", may_be_infinite=True)
        limit = RestartLimit(whole_number(max_restarts, "max_restarts"), window_minutes)
        # SubprocVecEnv.__init__ would start processes of its own; what else it does is done here.
        self.waiting = self.closed = False
        self.remotes: tuple[Worker, ...] = ()  # which have the methods of its connections
        try:
            for index, env_fn in enumerate(env_fns):
                start = partial(WorkerLink, context, CloudpickleWrapper(env_fn), timeout)
                self.remotes += (Worker(index, start, limit),)
            self.remotes[0].send(("get_spaces", None))
            super(SubprocVecEnv, self).__init__(len(env_fns), *self.remotes[0].recv())
        except BaseException:
            self.close()
            raise

    @property
    def processes(self) -> list[Any]:  # type: ignore[override]
        """The workers' processes, of which some may be new ones."""
        return [worker.link.process for worker in self.remotes]

    @property
    def n_restarts(self) -> int:
        """How often a worker was started anew."""
        return sum(worker.n_restarts for worker in self.remotes)

    def reset(self) -> VecEnvObs:
        """As ``SubprocVecEnv``'s. A step that nobody has waited for is over."""
        self.waiting = False
        return super().reset()

    def step_async(self, actions: np.ndarray) -> None:
        """
        As ``SubprocVecEnv``'s.

        :param actions: one for each env
        :raises RuntimeError: if the step before has not been waited for, or the env was closed
        """
        if self.waiting:
            raise RuntimeError(
                "step_async() has begun a step that nothing has waited for: call step_wait() first, or reset()."
            )
        super().step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """
        As ``SubprocVecEnv``'s.

        :raises RuntimeError: if no step has begun, or workers have died too often
        """
        if not self.waiting:
            raise RuntimeError("step_wait() waits for a step that step_async() has begun; there is none.")
        return super().step_wait()

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError(
            "RestartingVecEnv lives in several processes and can be neither pickled nor copied. Save its model instead "
            "(model.save), which leaves the env out."
        )

    def close(self) -> None:
        """End all processes, those that do not end by themselves too; can be called more than once."""
        if self.closed:
            return
        for worker in self.remotes:
            worker.begin_to_close()
        deadline = time.monotonic() + END_S
        for worker in self.remotes:
            worker.link.end(max(0.0, deadline - time.monotonic()))
        self.closed, self.waiting = True, False
