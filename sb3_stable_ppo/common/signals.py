"""
SIGTERM, a scheduler's polite end of a job, taken as Ctrl-C is: what is there is saved.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_ASKED_TO_STOP = threading.Event()


def interrupt(*_: object) -> None:
    """
    A signal's handler.

    :raises KeyboardInterrupt: always
    """
    _ASKED_TO_STOP.set()
    raise KeyboardInterrupt


def was_interrupted() -> bool:
    """Whether :func:`interrupt` was called: rl_zoo3 takes the KeyboardInterrupt for a wish to save and go on."""
    return _ASKED_TO_STOP.is_set()


@contextmanager
def handled(number: signal.Signals, handler: Callable[..., None] = interrupt) -> Iterator[None]:
    """
    Handle a signal, in the main thread, and hand it back.

    :param number: the signal
    :param handler: what is called
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)
