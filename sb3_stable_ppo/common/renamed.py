"""
Old spellings: they work for one more version and say what the new one is.
"""

from __future__ import annotations

import warnings
from typing import TypeVar

T = TypeVar("T")


def renamed_argument(old: str, old_value: T | None, new: str, new_value: T | None, stacklevel: int = 3) -> T | None:
    """
    The value of an argument that has a new name.

    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     renamed_argument("every_steps", 500, "every", None)
    500

    :param old: its old name
    :param old_value: what was given by the old name; None: nothing
    :param new: its new name
    :param new_value: what was given by the new name; None: nothing
    :param stacklevel: of the warning; 3: whoever called the function that has the argument
    :raises ValueError: if it was given by both names
    """
    if old_value is None:
        return new_value
    if new_value is not None:
        raise ValueError(f"{old} is the old name of {new}, and both are given. Leave {old} out.")
    warn_of_old_name(old, new, stacklevel + 1)
    return old_value


def warn_of_old_name(old: str, new: str, stacklevel: int = 3) -> None:
    """
    Warn of a name that goes away with the next version. (A FutureWarning: Python hides DeprecationWarnings.)

    :param old: the old name
    :param new: what to write in its place
    :param stacklevel: of the warning
    """
    warnings.warn(
        f"{old} is an old name, which the next version will not have: write {new}.", FutureWarning, stacklevel
    )
