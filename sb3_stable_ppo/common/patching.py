"""
How we reach into upstream code: an attribute is shadowed while a call runs, and given back whatever happens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def patched(owner: Any, name: str, value: Any) -> Iterator[None]:
    """
    Shadow an attribute or a method of an instance or a module.

    :param owner: the instance or module
    :param name: the attribute's name
    :param value: what stands in for it
    """
    missing = object()
    before = owner.__dict__.get(name, missing)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is missing:
            delattr(owner, name)
        else:
            setattr(owner, name, before)
