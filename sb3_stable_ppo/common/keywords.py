"""
Which keyword arguments a class takes.
"""

from __future__ import annotations

import inspect


def keywords_of(cls: type) -> set[str]:
    """
    The keyword arguments that a class takes; ``**kwargs`` is followed to the parent classes, and what a class hands on
    to others stands in its ``extra_keywords``.

    :param cls: any class
    """
    names: set[str] = set(getattr(cls, "extra_keywords", ()))
    for base in cls.__mro__:
        init = base.__dict__.get("__init__")
        if init is None:
            continue
        parameters = inspect.signature(init).parameters.values()
        names.update(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return names - {"self", "_init_setup_model"}
