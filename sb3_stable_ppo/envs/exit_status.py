"""
Why a process has ended, in words.
"""

from __future__ import annotations

import signal


def cause_of_end(exitcode: int | None) -> str:
    """
    >>> cause_of_end(1), cause_of_end(-11)
    ('exit status 1', 'SIGSEGV')

    :param exitcode: of a process; None: it runs, but nothing comes from it any more
    """
    if exitcode is None:
        return "a pipe that was closed"
    if exitcode >= 0:
        return f"exit status {exitcode}"
    name = signal.Signals(-exitcode).name
    return f"{name}, often for lack of memory" if name == "SIGKILL" else name
