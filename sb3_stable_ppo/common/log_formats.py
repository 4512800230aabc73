"""
How we write into SB3's logger.
"""

from __future__ import annotations

from stable_baselines3.common.logger import Logger

TABLE = ("stdout", "log")
"""The printed table and its text file, as ``record(exclude=...)`` takes them. All our figures would make them a hundred
lines long."""


def record_count(logger: Logger, name: str, new: int) -> None:
    """
    Count what has happened since the last line of the log. The printed table has the count only where there is one.

    :param logger: which forgets its numbers when it writes a line: with ``log_interval=4``, after four updates
    :param name: of the count
    :param new: how often it has happened since the last call
    """
    count = int(logger.name_to_value.get(name, 0)) + new
    logger.record(name, count, exclude=None if count else TABLE)
