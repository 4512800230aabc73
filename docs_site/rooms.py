"""
The public names of the package and of its rooms, read from their sources: nothing is imported, so building the site
needs no torch.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple

from docstrings import as_markdown

PACKAGE = Path(__file__).parent.parent / "sb3_stable_ppo"
UNLISTED = re.compile(r"Stable(Maskable|Recurrent)\w+Policy|make_atari_env")
"""Forms of a policy that an algorithm chooses, and an old name: importable, but on no list."""


class Room(NamedTuple):
    """
    :param name: of the subpackage; empty: the package itself
    :param purpose: what it is for
    :param names: where each public name is defined, as a dotted path
    :param summaries: the first sentence or so of each name's docstring
    """

    name: str
    purpose: str
    names: dict[str, str]
    summaries: dict[str, str]


def rooms() -> list[Room]:
    """The package itself, then its rooms by name, each also with what the package alone exports of it."""
    top = room_of(PACKAGE / "__init__.py")
    found = [room_of(init) for init in sorted(PACKAGE.glob("*/__init__.py"))]
    for room in found:
        inside = f"sb3_stable_ppo.{room.name}."
        more = {name: path for name, path in top.names.items() if path.startswith(inside)}
        room.names.update(sorted({**more, **room.names}.items()))
    return [top, *found]


def room_of(init: Path) -> Room:
    """
    :param init: an ``__init__.py``, which imports what it exports for type checkers
    """
    tree = ast.parse(init.read_text())
    names: dict[str, str] = {}
    summaries: dict[str, str] = {}
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    for node in block.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            module = ast.parse((PACKAGE.parent / f"{node.module.replace('.', '/')}.py").read_text())
            for alias in node.names:
                if not UNLISTED.fullmatch(alias.name):
                    names[alias.name] = f"{node.module}.{alias.name}"
                    summaries[alias.name] = summary_of(module, alias.name)
    name = "" if init.parent == PACKAGE else init.parent.name
    purpose = one_line(ast.get_docstring(tree) or "")
    return Room(name, purpose, dict(sorted(names.items())), summaries)


def summary_of(module: ast.Module, name: str) -> str:
    """
    The first paragraph of a docstring.

    :param module: where the name is defined
    :param name: of a class or a function; all else has none
    """
    for node in module.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            first = (ast.get_docstring(node) or "").split("\n\n")[0]
            return one_line("" if first.startswith(":param") else first)
    return ""


def one_line(text: str) -> str:
    """Markdown that fits into a cell of a table."""
    return as_markdown(" ".join(text.split())).replace("|", "\\|")
