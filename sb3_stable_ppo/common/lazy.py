"""
Names that a package imports when they are first asked for (PEP 562), so that ``--help`` does not wait for torch.

A room's ``__init__.py`` lists its public names twice: for type checkers and editors as real imports under
``TYPE_CHECKING``, and for the interpreter as the table given to :func:`lazy_exports`. A test compares the two.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import Any, TypeVar

from sb3_stable_ppo._old_names import find_old_name

PACKAGE = "sb3_stable_ppo"
Class = TypeVar("Class", bound=type)


def lazy_exports(
    package: str, names_by_module: Mapping[str, Sequence[str]], unlisted: Sequence[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """
    ``__getattr__``, ``__dir__`` and ``__all__`` of a package.

    >>> __getattr__, __dir__, __all__ = lazy_exports("sb3_stable_ppo.guards", {"config": ["GuardConfig"]})
    >>> __all__, __getattr__("GuardConfig").__name__
    (['GuardConfig'], 'GuardConfig')

    Names that the package had in an older version are found too.

    :param package: its ``__name__``
    :param names_by_module: the public names that each module within the package defines
    :param unlisted: patterns (``fnmatch``) of names among them that can be imported, but are neither in ``__all__`` nor
        in ``dir()``: what few users need by name
    """
    module_of = {name: module for module, names in names_by_module.items() for name in names}
    listed = sorted(name for name in module_of if not any(fnmatchcase(name, pattern) for pattern in unlisted))

    def __getattr__(name: str) -> Any:
        if name in module_of:
            value = getattr(import_module(f"{package}.{module_of[name]}"), name)
        elif name.startswith("__"):
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        elif find_spec(f"{package}.{name}") is not None:  # a module within, before anything has imported it
            return import_module(f"{package}.{name}")
        else:
            value = find_old_name(package, name)
        setattr(sys.modules[package], name, value)  # the next time, Python finds it by itself
        return value

    def __dir__() -> list[str]:
        module = sys.modules[package]
        rooms = {info.name for info in iter_modules(module.__path__) if not info.name.startswith("_")}
        return sorted({*listed, *rooms, *(name for name in vars(module) if name.startswith("__"))})

    return __getattr__, __dir__, listed


def public(cls: Class) -> Class:
    """
    Class decorator: pickles and messages name the class as users import it, ``sb3_stable_ppo.StepLR``. The module that
    it happens to be defined in can then change without breaking what was saved. (The price: ``inspect.getsource`` looks
    for the class in the package and does not find it.)

    :param cls: one of the package's own exports
    """
    cls.__module__ = PACKAGE
    return cls
