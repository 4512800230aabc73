"""
A checkpoint on disk: one folder that is there whole or not at all, with a checksum of each file.

================= =====================================================================
``manifest.json`` format version, step, what is exact, and size and SHA-256 of each file
``model.zip``     SB3's own ``save()``
``state.pt``      random states, callbacks, and what else SB3's zip leaves out
``env.pkl``       the envs, as far as they can be saved
``replay.pkl``    the replay buffer, off-policy
``logs/``         logs as they were
================= =====================================================================
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from sb3_stable_ppo.common.errors import UsageError, described
from sb3_stable_ppo.common.files import json_ready

FORMAT = 1
"""The version of this format. Raise it where an older package could not read what is written."""
CHECKPOINTS, MANIFEST = "checkpoints", "manifest.json"


class Checkpoint(NamedTuple):
    """
    One that is sound.

    :param folder: where it is
    :param facts: its manifest
    """

    folder: Path
    facts: dict[str, Any]

    @property
    def step(self) -> int:
        """Environment steps."""
        return int(self.facts["step"])


class _DamagedError(Exception):
    """What is wrong with a checkpoint, in words."""


@contextmanager
def writing(root: Path, step: int, facts: dict[str, Any]) -> Iterator[Path]:
    """
    A new folder to write files into. When the context ends, they are synced to the disk, their checksums are taken, and
    the folder is given its name. Where anything fails, nothing is left of it.

    :param root: the folder of all checkpoints
    :param step: environment steps so far
    :param facts: for the manifest, read at the end
    :raises OSError: where the disk is full or cannot be written
    """
    final, partial = root / f"{step:012d}", root / f".{step:012d}.{os.getpid()}.part"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        files = {}
        for path in sorted(each for each in partial.rglob("*") if each.is_file()):
            files[path.relative_to(partial).as_posix()] = _summed(path)
            _sync(path)
        manifest = json.dumps(json_ready({"format": FORMAT, "step": step, **facts, "files": files}), indent=2)
        (partial / MANIFEST).write_text(manifest, encoding="utf-8")
        _sync(partial / MANIFEST)
        for folder in (*(each for each in partial.rglob("*") if each.is_dir()), partial):
            _sync(folder)
        if final.exists():  # damaged, or of a run that was killed: this one has come to the same step again
            old = root / f".{final.name}.{os.getpid()}.old.part"
            shutil.rmtree(old, ignore_errors=True)
            final.rename(old)
            partial.rename(final)
            shutil.rmtree(old, ignore_errors=True)
        else:
            partial.rename(final)
        _sync(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def prune(root: Path, keep: int) -> None:
    """
    Remove all but the last checkpoints.

    :param root: the folder of all checkpoints
    :param keep: how many stay
    """
    for folder in _folders(root)[keep:]:
        shutil.rmtree(folder, ignore_errors=True)


def clear_partial(root: Path) -> None:
    """
    Remove what runs that were killed while they wrote have left.

    :param root: the folder of all checkpoints
    """
    for folder in root.glob(".*.part"):
        shutil.rmtree(folder, ignore_errors=True)


def set_aside_later(root: Path, step: int, is_resumed: bool = False) -> None:
    """
    Give checkpoints of later steps other names, ``<step>.1`` or the next that is free, with a warning. They are of
    another branch, or damaged where a run is resumed from an earlier one; :func:`prune` and :func:`newest_checkpoint`
    would take them for the end of this one.

    :param root: the folder of all checkpoints
    :param step: environment steps so far
    :param is_resumed: by :func:`newest_checkpoint`, which has told of the damaged ones already
    """
    names = []
    for folder in reversed(_folders(root)):
        if int(folder.name) > step:
            number = next(each for each in count(1) if not (root / f"{folder.name}.{each}").exists())
            try:
                names.append(folder.rename(root / f"{folder.name}.{number}").name)
            except OSError as error:
                warnings.warn(
                    f"{folder} is of another run than this one, which begins at step {step:,}, and cannot be renamed "
                    f"({described(error, 200)}). Move it away, or resume() will go on from it.",
                    stacklevel=2,
                )
    if names and not is_resumed:
        warnings.warn(
            f"{root} has checkpoints of later steps than {step:,}, at which this run begins. They are of another run, "
            f"and resume() would go on from them, so they have new names: {', '.join(names)}. Remove what you do not "
            "need. To go on from one of them, give it its old name back and call resume().",
            stacklevel=2,
        )


def newest_checkpoint(run_folder: Path) -> Checkpoint:
    """
    The newest sound checkpoint of a run. Of each damaged one that is newer, a warning tells.

    :param run_folder: the run's folder
    :raises UsageError: if there is none, or if the newest is of a newer version of this package
    """
    root = run_folder / CHECKPOINTS
    folders = _folders(root)
    if not folders:
        raise UsageError(
            f"{root} has no checkpoint, so that there is nothing to resume from. RunCheckpoint among the callbacks of "
            "learn() writes them."
        )
    for folder in folders:
        try:
            return Checkpoint(folder, _checked(folder))
        except _DamagedError as problem:
            warnings.warn(f"The checkpoint {folder} is damaged: {problem}. The one before is tried.", stacklevel=2)
    raise UsageError(f"None of the {len(folders)} checkpoints in {root} is sound: start the run anew.")


def warn_of_other_owner(folder: Path) -> None:
    """
    Loading executes pickles, and someone else may have written them.

    :param folder: a checkpoint
    """
    if hasattr(os, "getuid"):
        others = [path.name for path in folder.rglob("*") if path.stat().st_uid != os.getuid()]
        if others:
            warnings.warn(
                f"{folder}: {', '.join(sorted(others)[:3])} belong to another user. A checkpoint is loaded by "
                "executing pickles: resume only what you trust.",
                stacklevel=3,
            )


def _folders(root: Path) -> list[Path]:
    """The newest first."""
    found = [path for path in root.glob("[0-9]*") if path.name.isdigit() and path.is_dir()]
    return sorted(found, key=lambda path: -int(path.name))


def _checked(folder: Path) -> dict[str, Any]:
    try:
        facts = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        version = facts["format"]
        files: dict[str, dict[str, Any]] = facts["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _DamagedError(f"{MANIFEST} cannot be read ({described(error, 100)})") from None
    if version > FORMAT:
        raise UsageError(
            f"The checkpoint {folder} has format {version}, and this version of sb3-stable-ppo knows formats up to "
            f"{FORMAT}: resume with the version that wrote it, {facts.get('versions', {}).get('sb3_stable_ppo')}."
        )
    for name, expected in files.items():
        try:
            found = _summed(folder / name)
        except OSError as error:
            raise _DamagedError(f"{name} cannot be read ({described(error, 100)})") from None
        if found != expected:
            raise _DamagedError(f"{name} has other bytes than were written")
    return dict(facts)


def _summed(path: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def _sync(path: Path) -> None:
    """To the disk, and not only to the operating system: a machine may lose its power."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
