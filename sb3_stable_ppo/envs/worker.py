"""
One env of a ``RestartingVecEnv``: it stands where ``SubprocVecEnv`` has a connection, and answers whatever happens at
the other end.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from sb3_stable_ppo.common.errors import described
from sb3_stable_ppo.envs.restart_limit import Death, RestartLimit
from sb3_stable_ppo.envs.worker_link import WorkerLink
from sb3_stable_ppo.envs.worker_process import Failure, Step

RESTARTED = "worker_restarted"
"""The key of an info that says why a worker was started anew."""
END_S = 10.0
"""So long a worker that is asked to close may take."""


class Cut(NamedTuple):
    """An episode that was cut off, of which the vec env does not know yet: what the new one begins with, and why."""

    observation: Any
    info: dict[str, Any]
    cause: str


class Worker:
    """
    ``send`` and ``recv`` are as a connection's. Where the process has ended or gives no answer, another one is started,
    and ``recv`` returns what SB3's worker sends at the end of an episode.

    :param index: of the env
    :param start: starts a process; takes whether it goes on with the env of another one
    :param limit: counts the deaths of all workers
    """

    def __init__(self, index: int, start: Callable[[bool], WorkerLink], limit: RestartLimit) -> None:
        self.index, self.n_restarts = index, 0
        self._start, self._limit = start, limit
        self._seed: int | None = None
        self._attributes: dict[str, Any] = {}
        self._request: tuple[str, Any] = ("", None)
        self._last: Any = None  # observation; None: the env has never begun, and its end is an error
        self._cut: Cut | None = None
        self._is_closed = False
        self.link = start(False)

    def send(self, request: tuple[str, Any]) -> None:
        """
        :param request: one of SB3's worker, with its data
        :raises RuntimeError: if the vec env was closed
        """
        if self._is_closed:
            raise RuntimeError("This RestartingVecEnv was closed: make another one.")
        if self.link.is_owed:  # whoever waited for the last answer was interrupted
            with suppress(Death):
                self.link.answer()
        if self._cut is None or request[0] != "step":
            self.link.ask(request)
        self._request = request

    def recv(self) -> Any:
        """
        The answer to the last request.

        :raises RuntimeError: if the worker has died before its env had begun, or once too often
        :raises Exception: what a method or an attribute of the env has raised; the worker goes on
        """
        command, data = self._request
        if command == "step":
            answer = self._cut_off() if self._cut is not None else self._survive()
            self._last = answer[0]
            return answer
        if command == "reset" and data[0] is not None:
            self._seed = int(data[0])
        answer = self._survive()
        if command == "set_attr":
            self._attributes[data[0]] = data[1]
        elif command == "reset":
            self._last = answer[0]
            if self._cut is not None:
                answer[1][RESTARTED] = self._cut.cause
                self._cut = None
        return answer

    def begin_to_close(self) -> None:
        """For good; the link's ``end`` waits for it."""
        self._is_closed = True
        self.link.ask_to_close()

    def _survive(self) -> Any:
        """The answer, of another process if need be."""
        command, data = self._request
        ended: Step | None = None
        while True:
            try:
                answer = self.link.answer()
                if not isinstance(answer, Failure):
                    return answer
                ended = answer.ended
                if answer.has_env and command not in ("step", "reset"):
                    raise answer.exception()
                raise Death(answer.told, answer.traceback)
            except Death as death:
                if self._last is None:
                    raise RuntimeError(f"Env {self.index} has never begun: its worker died of {death.told()}") from None
                cut = self._restart(death, data[1] if command == "reset" else {})
            if command == "step":
                return self._cut_off() if ended is None else self._ended(ended)
            if command == "reset":
                return cut.observation, cut.info
            self.link.ask(self._request)

    def _cut_off(self) -> tuple[Any, float, bool, dict[str, Any], dict[str, Any]]:
        """The end of the episode that was cut off, as SB3's worker tells it."""
        assert self._cut is not None
        (observation, reset_info, cause), self._cut = self._cut, None
        info = {"TimeLimit.truncated": True, "terminal_observation": self._last, RESTARTED: cause}
        return observation, 0.0, True, info, reset_info

    def _ended(self, last: Step) -> tuple[Any, float, bool, dict[str, Any], dict[str, Any]]:
        """The end of an episode that came to its end, though the env could not be reset after it."""
        assert self._cut is not None
        (observation, reset_info, cause), self._cut = self._cut, None
        terminal, reward, terminated, truncated, info = last
        told = {"TimeLimit.truncated": truncated and not terminated, "terminal_observation": terminal, RESTARTED: cause}
        return observation, reward, True, {**info, **told}, reset_info

    def _restart(self, death: Death, options: dict[str, Any]) -> Cut:
        """
        Start another process, and reset its env with a fresh seed.

        :raises RuntimeError: if workers have died too often
        """
        first = death
        while True:
            self._limit.count(self.index, death)
            self.n_restarts += 1
            self.link.ask_to_close()  # one that has told of an exception is alive
            self.link.end(END_S)
            try:
                self.link = self._start(True)
                for attribute in self._attributes.items():
                    self._demand(("set_attr", attribute))
                observation, info = self._demand(("reset", (self._fresh_seed(), options)))
                break
            except Death as another:
                death = another
            except OSError as error:  # the system has no process to give
                death = Death(described(error))
        self._cut = Cut(observation, info, first.cause)
        self._limit.warn(self.index, first, self.n_restarts)
        return self._cut

    def _demand(self, request: tuple[str, Any]) -> Any:
        """:raises Death: if there is no answer, or an exception"""
        self.link.ask(request)
        answer = self.link.answer()
        if isinstance(answer, Failure):
            raise Death(answer.told, answer.traceback)
        return answer

    def _fresh_seed(self) -> int | None:
        """The seed of an env that was never given one is left to the env."""
        if self._seed is None:
            return None
        return int(np.random.SeedSequence([self._seed, self.index, self.n_restarts]).generate_state(1)[0]) % 2**31
