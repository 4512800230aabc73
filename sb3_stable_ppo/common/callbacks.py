"""
The callbacks of a run: lists and events have others within.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback


def callbacks_within(callback: Any) -> Iterator[BaseCallback]:
    """
    A callback and all within it, in the order in which SB3 calls them.

    :param callback: what ``learn()`` was given, or its ``locals["callback"]``; anything else has none
    """
    if isinstance(callback, BaseCallback):
        yield callback
    for child in (*getattr(callback, "callbacks", ()), getattr(callback, "callback", None)):
        if isinstance(child, BaseCallback):
            yield from callbacks_within(child)
