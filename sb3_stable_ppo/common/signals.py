"""
SIGTERM, a scheduler's polite end of a job, taken as Ctrl-C is: what is there is saved.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

CHECKPOINT_SIGNAL: signal.Signals | None = getattr(signal, "SIGUSR1", None)
"""By which a scheduler asks for a checkpoint; Windows has none."""


class _State:
    """Of this process: the signal that asked it to stop, whether it may be interrupted now, and has yet to be."""

    asked_to_stop, allowed, pending = 0, True, False


def interrupt(number: int = signal.SIGINT, *_: object) -> None:
    """
    A signal's handler.

    :param number: of the signal
    :raises KeyboardInterrupt: unless :func:`interruptions` puts it off
    """
    remember(number)
    _raise_what_came()


def remember(number: int) -> None:
    """
    Put a signal off: it interrupts when :func:`interruptions` next allows it, unless :func:`interrupt` did so before.

    :param number: of the signal
    """
    _State.asked_to_stop, _State.pending = number, True


def was_interrupted() -> bool:
    """Whether a signal has asked this process to stop."""
    return bool(_State.asked_to_stop)


def interrupted_by() -> signal.Signals:
    """The signal that :func:`interrupt` was called for; a KeyboardInterrupt without one is taken for Ctrl-C."""
    return signal.Signals(_State.asked_to_stop or signal.SIGINT)


def exit_status() -> int:
    """Of a process that was interrupted, as a shell has it: 130 after Ctrl-C (SIGINT), 143 after SIGTERM."""
    return 128 + interrupted_by()


@contextmanager
def interruptions(allowed: bool) -> Iterator[None]:
    """
    Let :func:`interrupt` raise within the block, or put it off, so that what is written there is written whole.

    :param allowed: whether it raises. Where it does not, it does so as soon as it may again.
    :raises KeyboardInterrupt: at the begin or the end of the block, if it may be raised there and came before
    """
    before, _State.allowed = _State.allowed, allowed
    try:
        _raise_what_came()
        yield
    finally:
        _State.allowed = before
    _raise_what_came()


def _raise_what_came() -> None:
    if _State.pending and _State.allowed:
        _State.pending = False
        raise KeyboardInterrupt


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


@contextmanager
def ignored(number: signal.Signals | None) -> Iterator[None]:
    """
    Let a signal do nothing, where it would end the process.

    :param number: the signal; None: none
    """
    if number is None:
        yield
        return
    with handled(number, lambda *_: None):
        yield
