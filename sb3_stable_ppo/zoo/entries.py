"""
Which entry of which file an env is trained with. Pure: dictionaries in, an entry and where it is from out.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

VERSION = re.compile(r"-v(\d+)$")
NOT_ENVS = ("atari", "default")
"""Entries of rl_zoo3's files for envs that have none of their own."""


class File(NamedTuple):
    """
    Hyperparameters by env.

    :param name: of the file, as messages have it
    :param entries: its content
    """

    name: str
    entries: Mapping[str, Any]


class Found(NamedTuple):
    """
    An entry.

    :param file: in which it is
    :param name: by which it is there, such as ``Hopper-v4`` for the env ``Hopper-v5``
    """

    file: File
    name: str

    @property
    def source(self) -> str:
        """Where it is, for messages."""
        return f"{self.file.name}, {self.name}"

    @property
    def entry(self) -> Any:
        """What is there."""
        return self.file.entries[self.name]


def find_in_one(env_id: str, file: File, is_atari: bool) -> Found | None:
    """
    The entry of a user's own file, by rl_zoo3's rule: the env's own, or ``atari``, or ``default``.

    >>> file = File("my.yml", {"Hopper-v4": {}, "default": {}})
    >>> find_in_one("Hopper-v5", file, False).name
    'default'

    :param env_id: of the env
    :param file: the only one that counts
    :param is_atari: whether the env is an Atari game
    :return: None: there is none
    """
    names = (env_id, *(("atari",) if is_atari else ()), "default")
    return next((Found(file, name) for name in names if name in file.entries), None)


def find_nearest(env_id: str, files: Sequence[File], is_atari: bool) -> Found | None:
    """
    The nearest entry of several files: the env's own; ``atari`` for a game; that of another version, the newest first.
    Where two are equally near, that of the earlier file.

    >>> ours, theirs = File("ours.yml", {"Taxi-v4": {}}), File("theirs.yml", {"Hopper-v3": {}, "Hopper-v4": {}})
    >>> find_nearest("Hopper-v5", [ours, theirs], False).source
    'theirs.yml, Hopper-v4'

    :param env_id: of the env
    :param files: the one that goes before first
    :param is_atari: whether the env is an Atari game
    :return: None: there is none
    """
    for name in (env_id, "atari") if is_atari else (env_id,):
        for file in files:
            if name in file.entries:
                return Found(file, name)
    others = [
        Found(file, name) for file in files for name in file.entries if _stem(name) == _stem(env_id) and _version(name)
    ]
    return max(others, key=lambda found: _version(found.name), default=None)


def no_entry(env_id: str, files: Sequence[File]) -> str:
    """
    The sentence about an env that no file knows.

    :param env_id: of the env
    :param files: those that were searched
    """
    first, *others = (file.name for file in files)
    known = [str(name) for file in files for name in file.entries if name not in NOT_ENVS]
    near = list(dict.fromkeys(difflib.get_close_matches(env_id, known, n=3)))
    told = (
        f"Nearest are {', '.join(near)}" if near else f"{first} has {', '.join(map(str, files[0].entries)) or 'none'}"
    )
    nor = "".join(f", nor has {other}" for other in others)
    return f"{first} has no entry for {env_id}{nor}. {told}. Give a file that has one with --conf-file."


def _stem(name: str) -> str:
    return VERSION.sub("", name)


def _version(name: str) -> int:
    """Of an env's id, counted from 1; 0: it has none."""
    found = VERSION.search(name)
    return int(found[1]) + 1 if found else 0
