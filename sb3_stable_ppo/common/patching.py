"""
How we reach into upstream code: an attribute is shadowed while a call runs, and given back whatever happens.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

MISSING = object()


@contextmanager
def patched(owner: Any, name: str, value: Any) -> Iterator[None]:
    """
    Shadow an attribute or a method of an instance or a module. It must exist: upstream code no longer looks at an
    attribute that it has renamed, and a patch of the old name would change nothing.

    :param owner: the instance or module
    :param name: the attribute's name
    :param value: what stands in for it
    :raises RuntimeError: if neither the owner nor its class has the attribute
    """
    if inspect.getattr_static(owner, name, MISSING) is MISSING:
        raise RuntimeError(
            f"{_described(owner)} has no attribute {name!r}, which sb3-stable-ppo replaces. Another version of the "
            "package has another name for it: install the versions that sb3-stable-ppo asks for, or report this."
        )
    before = owner.__dict__.get(name, MISSING)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is MISSING:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


def uncompiled(module: Any) -> Any:
    """
    What ``torch.compile`` has wrapped, or the module itself. The wrapper looks names up in what it wraps, so that is
    where an attribute has to be shadowed.

    :param module: such as a policy
    """
    return getattr(module, "_orig_mod", module)


def _described(owner: Any) -> str:
    """The owner, and the versions of the packages that its attributes come from."""
    if isinstance(owner, ModuleType):
        name, modules = owner.__name__, [owner.__name__]
    else:
        name, modules = type(owner).__name__, [base.__module__ for base in type(owner).__mro__]
    packages = dict.fromkeys(module.partition(".")[0] for module in modules)
    versions = {package: getattr(sys.modules.get(package), "__version__", None) for package in packages}
    told = ", ".join(f"{package} {version}" for package, version in versions.items() if version)
    return f"{name} ({told})" if told else name
