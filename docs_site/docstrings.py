"""
Docstrings in Sphinx's words, as Markdown: roles become code, examples become blocks. A Griffe extension.
"""

from __future__ import annotations

import re
from itertools import groupby
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|mod|func|meth|attr|data):`~?(?:[\w.]+\.)?(\w+)`")
SKIP = re.compile(r"\s*# doctest: .*$")


class SphinxWords(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """
        :param obj: a module, class, function or attribute that Griffe has found
        """
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(docstring: str) -> str:
    """
    >>> as_markdown("See :class:`~a.b.StepLR` and :meth:`of`.")
    'See `StepLR` and `of`.'

    :param docstring: without indentation
    """
    lines = ROLE.sub(r"`\1`", docstring).splitlines()
    paragraphs = groupby(lines, key=lambda line: bool(line.strip()))
    return "\n".join(line for _, group in paragraphs for line in _paragraph([*group]))


def _paragraph(lines: list[str]) -> list[str]:
    """A paragraph with an example becomes a block, from its first prompt on."""
    first = next((number for number, line in enumerate(lines) if line.startswith(">>> ")), None)
    if first is None:
        return lines
    return [*lines[:first], "```pycon", *(SKIP.sub("", line) for line in lines[first:]), "```"]
