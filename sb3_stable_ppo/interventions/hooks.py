"""
Hooks and stand-ins that stay behind when what they hang on is copied or pickled.

Other callbacks copy a policy or a buffer in mid-run, and copies take along what hangs on the original. A method of a
callback would take the callback with it, and thereby the model, its env and tensors that torch cannot copy; and what
came of it would go on acting in the run that it was copied from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Hook:
    """
    A hook of a module. Copies of it do nothing.

    >>> import copy
    >>> hook = Hook(lambda module, args: "heard")
    >>> hook(None, ()), copy.deepcopy(hook)(None, ())
    ('heard', None)

    :param call: takes what torch gives to hooks of its kind
    """

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __reduce__(self) -> tuple[Any, ...]:
        return Hook, (_nothing,)


class StandIn:
    """
    In place of a method of an instance, as an attribute of it. A copy of the instance has its own method there.

    :param owner: the instance
    :param name: of the method
    :param call: what is called instead
    """

    def __init__(self, owner: Any, name: str, call: Callable[..., Any]) -> None:
        self._owner, self._name, self._call = owner, name, call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy ask for the method before the copied instance has attributes of its own."""
        return getattr, (self._owner, self._name)


def _nothing(*args: Any) -> None:
    """What a copied hook does."""
