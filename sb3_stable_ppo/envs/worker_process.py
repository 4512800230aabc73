"""
What runs in the process of one env of a ``RestartingVecEnv``: SB3's own worker, which here tells its exceptions.
"""

from __future__ import annotations

import json
import multiprocessing as mp
import os
import pickle
import signal
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
from stable_baselines3.common import monitor
from stable_baselines3.common.env_util import unwrap_wrapper
from stable_baselines3.common.vec_env import subproc_vec_env
from stable_baselines3.common.vec_env.base_vec_env import CloudpickleWrapper

from sb3_stable_ppo.common.errors import described
from sb3_stable_ppo.common.patching import patched

Env = gym.Env[Any, Any]
Step = tuple[Any, Any, bool, bool, dict[str, Any]]
"""What an env's ``step`` gives."""


SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1")
"""What a terminal or a scheduler sends to all processes of a run; the main one decides, and may finish an update."""


class Failure(NamedTuple):
    """
    The answer of a worker whose env has raised an exception.

    :param told: the exception in one line
    :param traceback: the worker's own
    :param pickled: the exception; empty if it cannot be pickled
    :param has_env: whether there is an env; not if it could not be made
    :param ended: what the env's last step gave, if that ended an episode and the reset behind it has failed
    """

    told: str
    traceback: str
    pickled: bytes
    has_env: bool
    ended: Step | None = None

    def exception(self) -> Exception:
        """What the env raised; a RuntimeError in its place if it cannot be brought here."""
        try:
            found = pickle.loads(self.pickled)
        except Exception:  # unpickling calls the exception's class, which may raise anything
            found = None
        error = found if isinstance(found, Exception) else RuntimeError(self.told)
        error.__cause__ = RuntimeError(f"in the env's process:\n{self.traceback}")
        return error


class NeverRaised(Exception):
    """Stands in for EOFError in SB3's worker, which would take an EOFError of the env for the end of training."""


def run_worker(remote: Connection, parent_remote: Connection, env_fn: CloudpickleWrapper, continues: bool) -> None:
    """
    Serve one env until it is closed, or until the process at the other end has ended.

    :param remote: the worker's end of the pipe
    :param parent_remote: the other end, of which the worker has a copy
    :param env_fn: holds what makes the env
    :param continues: whether another process had the env before, whose ``monitor.csv`` goes on
    """
    for name in SIGNALS:
        if hasattr(signal, name):  # Windows has fewer
            signal.signal(getattr(signal, name), _leave_to_the_main_process)
    setattr(subproc_vec_env, "EOFError", NeverRaised)  # noqa: B010  # the module finds it before the built-in one
    envs: list[Env] = []
    last = _LastStep()

    def env_of_this_process() -> Env:
        if not envs:
            envs.append(_env_whose_monitor_continues(env_fn.var) if continues else env_fn.var())
            last.watch(envs[0])
        return envs[0]

    while not remote.closed:
        try:
            subproc_vec_env._worker(remote, parent_remote, CloudpickleWrapper(env_of_this_process))
            return
        except (Exception, SystemExit) as error:
            try:
                remote.send(_failure(error, bool(envs), last.ended))
            except OSError:  # nobody is there any more
                return
            if not envs:
                return


def _leave_to_the_main_process(number: int, _: Any) -> None:
    main = mp.parent_process()
    if main is None or not main.is_alive():
        os._exit(128 + number)


class _LastStep:
    """SB3's worker resets an env behind the last step of an episode, before it tells of that: so it is kept here."""

    def __init__(self) -> None:
        self.ended: Step | None = None

    def watch(self, env: Any) -> None:
        """
        :param env: whose ``step`` and ``reset`` are shadowed
        """
        step, reset = env.step, env.reset

        def stepped(action: Any) -> Any:
            self.ended = None
            found = step(action)
            self.ended = found if found[2] or found[3] else None
            return found

        def was_reset(*args: Any, **kwargs: Any) -> Any:
            found = reset(*args, **kwargs)
            self.ended = None
            return found

        env.step, env.reset = stepped, was_reset


def _failure(error: BaseException, has_env: bool, ended: Step | None) -> Failure:
    try:
        pickled = pickle.dumps(error)
    except Exception:  # pickling calls the exception's own code
        pickled = b""
    told = "".join(traceback.format_exception(error))
    return Failure(described(error), told, pickled, has_env, ended)


class _AppendingWriter(monitor.ResultsWriter):
    """Goes on with a file, where SB3's ``Monitor`` would empty it."""

    def __init__(
        self,
        filename: str,
        header: dict[str, float | str] | None = None,
        extra_keys: tuple[str, ...] = (),
        override_existing: bool = True,
    ) -> None:
        super().__init__(filename, header, extra_keys, override_existing=False)
        if override_existing and self.file_handler.tell() == 0:  # there was no such file
            self.close()
            super().__init__(filename, header, extra_keys)


def _env_whose_monitor_continues(make_env: Callable[[], Env]) -> Env:
    with patched(monitor, "ResultsWriter", _AppendingWriter):
        env = make_env()
    wrapper: Any = unwrap_wrapper(env, monitor.Monitor)
    if wrapper is not None and wrapper.results_writer is not None:
        first = Path(wrapper.results_writer.file_handler.name).read_text().partition("\n")[0]
        wrapper.t_start = json.loads(first.removeprefix("#"))["t_start"]  # all times of a file count from its header
    return env
