"""
The package's two errors, and how others are told in one line.
"""

from __future__ import annotations

from sb3_stable_ppo.common.lazy import public


@public
class UsageError(Exception):
    """
    A mistake of the user's: fact, cause and cure in one sentence. The command line shows it without traceback; what has
    the command line's functions in Python, such as ``tune`` and ``train_seeds``, raises it.
    """


@public
class CollapseError(ValueError):
    """Training cannot go on usefully. A ValueError, so that rl_zoo3's tuning prunes the trial."""


def one_line(error: BaseException, limit: int = 1000) -> str:
    """
    An error's text, without line breaks.

    :param error: any
    :param limit: characters; what is beyond is cut off
    """
    return " ".join(str(error).split())[:limit]


def described(error: BaseException, limit: int = 1000) -> str:
    """
    The name of an error's class, and its text in one line.

    >>> described(ValueError("two\\nlines"))
    'ValueError: two lines'

    :param error: any
    :param limit: characters of the text
    """
    return f"{type(error).__name__}: {one_line(error, limit)}"
