"""
The process of one env as the main process sees it: requests, answers, and its end.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.util import Finalize
from typing import Any

from stable_baselines3.common.vec_env.base_vec_env import CloudpickleWrapper

from sb3_stable_ppo.envs.exit_status import cause_of_end
from sb3_stable_ppo.envs.restart_limit import Death
from sb3_stable_ppo.envs.worker_process import Failure, run_worker

SLICE_S = 1.0
"""After so many seconds, look whether the process is alive: another one that it has started may hold its pipe open."""
REAP_S = 1.0
"""So long a process that has closed its pipe, or was killed, may take to be gone."""


class WorkerLink:
    """
    A process, which is started at once, and the pipe to it.

    :param context: starts processes
    :param env_fn: makes the env
    :param timeout: seconds that an answer may take; None: for ever
    :param continues: whether another process had the env before
    :raises OSError: if the system has no process to give
    """

    def __init__(
        self, context: BaseContext, env_fn: CloudpickleWrapper, timeout: float | None, continues: bool
    ) -> None:
        self.is_owed = False
        """Whether the process has a request that it has not answered."""
        self._timeout, self._asked_at = timeout, 0.0
        self._slice = SLICE_S if timeout is None else min(SLICE_S, timeout)
        self._remote, work_remote = context.Pipe()
        args = (work_remote, self._remote, env_fn, continues)
        self.process: Any = context.Process(target=run_worker, args=args, daemon=True)  # type: ignore[attr-defined]
        self.process.start()
        work_remote.close()
        self._poll = _poll_of(self._remote)
        # Before multiprocessing itself sends SIGTERM, which a worker leaves alone, and waits
        self._at_exit = Finalize(self, self.process.kill, exitpriority=1)

    def ask(self, request: tuple[str, Any]) -> None:
        """
        Send a request. A process that has ended is met by :meth:`answer`.

        :param request: one of SB3's worker, with its data
        """
        self._asked_at = time.monotonic()
        self.is_owed = True
        try:
            self._remote.send(request)
        except OSError:  # it has ended: there may be a last word of it to read
            pass
        except BaseException:  # what cannot be pickled was not sent
            self.is_owed = False
            raise

    def answer(self) -> Any:
        """
        Wait for the answer.

        :raises Death: if there will be none
        """
        was_late = False
        try:
            while not self._poll(self._slice):
                if self.process.exitcode is not None and not self._poll(0):
                    raise EOFError
                is_late = self._timeout is not None and time.monotonic() - self._asked_at > self._timeout
                if is_late and was_late:  # twice: after Ctrl-Z the clock has gone on, and the worker had no time
                    self._kill()
                    self.is_owed = False
                    raise Death(f"no answer within {self._timeout:g} s")
                was_late = is_late
            answer = self._remote.recv()
        except (EOFError, OSError):
            self.is_owed = False
            self.process.join(REAP_S)
            raise Death(cause_of_end(self.process.exitcode)) from None
        self.is_owed = False
        return answer

    def ask_to_close(self) -> None:
        """Does not wait; :meth:`end` does."""
        with suppress(OSError):
            self._remote.send(("close", None))

    def end(self, seconds: float) -> None:
        """
        Wait for a process that was asked to close, and kill it if it does not end.

        :param seconds: to wait
        """
        deadline = time.monotonic() + seconds
        with suppress(EOFError, OSError):
            while self.process.exitcode is None and time.monotonic() < deadline:
                has_come = self._poll(min(SLICE_S, max(0.0, deadline - time.monotonic())))
                if has_come and isinstance(self._remote.recv(), Failure):  # to close the env was too much for it
                    break
        self._remote.close()
        self._poll = self._remote.poll  # which raises from now on; the number of the file may be another's soon
        self.process.join(max(0.0, deadline - time.monotonic()))
        if self.process.exitcode is None:
            self._kill()
        self._at_exit.cancel()

    def _kill(self) -> None:
        self.process.kill()
        self.process.join(REAP_S)


def _poll_of(remote: Connection) -> Callable[[float], object]:
    """Whether there is something to read, within seconds. ``Connection.poll`` builds a selector in each call."""
    if not hasattr(select, "poll"):  # Windows
        return remote.poll
    poll = select.poll()
    poll.register(remote.fileno(), select.POLLIN)
    return lambda seconds: poll.poll(1000 * seconds)
