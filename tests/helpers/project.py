"""``pyproject.toml`` and ``constraints.txt``, read."""

from __future__ import annotations

import sys
from typing import Any

from packaging.requirements import Requirement

from helpers.processes import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it along

PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pythons() -> list[str]:
    """The versions of Python that the classifiers name."""
    prefix = "Programming Language :: Python :: "
    return [name.removeprefix(prefix) for name in PYPROJECT["project"]["classifiers"] if name.startswith(prefix)]


def requirements(*extras: str) -> list[Requirement]:
    """
    :param extras: whose requirements to add to the package's own
    """
    project = PYPROJECT["project"]
    lines = [*project["dependencies"], *(line for name in extras for line in project["optional-dependencies"][name])]
    return [Requirement(line) for line in lines]


def oldest(requirement: Requirement) -> str | None:
    """
    :param requirement: such as ``torch>=2.8,<3``
    :return: the version that it allows at least; None: any
    """
    return next((bound.version for bound in requirement.specifier if bound.operator == ">="), None)


def pins() -> dict[str, str]:
    """The exact versions of ``constraints.txt``, by name as package indexes normalise it."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line]
    return {normalised(name): version for name, _, version in (line.partition("==") for line in lines)}


def normalised(name: str) -> str:
    """
    :param name: of a package
    """
    return name.lower().replace("_", "-").replace(".", "-")
