"""
The run folder on disk: one writer, one reader, one format.

======================== ===========================================================================
``run.json``             what runs, since when, in which versions, and how it ended
``health.jsonl``         one JSON object per line and rollout: step, and for each layer its figures
``snapshots/``           ``observation.npz`` once, then ``<step>.npz`` with one array per layer
``progress.csv``         SB3's own log, where the command line trains
======================== ===========================================================================

Files are written whole or not at all (a new file takes the old one's place), lines are appended: a run that is killed
leaves a folder that can be read.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.common.files import Array, json_ready, packed, write_atomically

FORMAT = 1
"""The version of this format. Raise it where an older package could not read what is written."""
FLOAT16_MAX = float(np.finfo(np.float16).max)


def check_format(facts: Mapping[str, Any], folder: str | Path) -> None:
    """
    Folders without a version, as version 0.1.0 made them, are read.

    :param facts: of ``run.json``
    :param folder: where it is, for the error
    :raises UsageError: if the folder has a newer format than this package knows
    """
    version = facts.get("format", 0)
    if isinstance(version, int) and version > FORMAT:
        raise UsageError(
            f"The run folder {folder} has format {version}, and this version of sb3-stable-ppo knows formats up to "
            f"{FORMAT}: use the version that wrote it, {(facts.get('versions') or {}).get('sb3-stable-ppo')}."
        )


def thinned(steps: list[int], keep: int) -> list[int]:
    """
    Which snapshots to drop so that at most ``keep`` stay: where they are dense, the newest kept; about every second one
    of those that are evenly spaced.

    >>> thinned([1, 2, 3, 4, 5], keep=3)
    [2, 4]
    >>> thinned([10, 20, 30, 31, 32, 33, 34], keep=6)
    [31, 32, 33]

    :param steps: steps of the snapshots that exist, ascending
    :param keep: how many may stay, at least 1
    :return: the steps to drop
    """
    kept = steps
    while len(kept) > keep:
        kept = _half_of(kept)
    return sorted(set(steps) - set(kept))


def _half_of(steps: list[int]) -> list[int]:
    """Half of them, or nearly, as far apart as can be."""
    distances = range(1, steps[-1] - steps[0] + 2)

    def dropped(distance: int) -> int:
        return len(steps) - len(_apart(steps, distance))

    nearest = distances[bisect_left(distances, len(steps) // 2, key=dropped)]
    return _apart(steps, distances[bisect_right(distances, dropped(nearest), key=dropped) - 1])


def _apart(steps: list[int], distance: int) -> list[int]:
    """Those that lie so far apart at least, from the newest on."""
    kept = steps[-1:]
    for step in reversed(steps):
        if kept[-1] - step >= distance:
            kept.append(step)
    return kept[::-1]


class RunWriter:
    """
    Writes a run folder. Nothing is created before the first write.

    :param folder: the run's folder
    :param max_snapshots: when there are more, about half of them are dropped, where they are densest
    """

    def __init__(self, folder: str | Path, max_snapshots: int = 500) -> None:
        self.folder = Path(folder)
        self.max_snapshots = max_snapshots

    def set_aside(self, name: str) -> None:
        """
        Give a file or folder of an earlier run another name, ``<name>.1`` or the next that is free.

        :param name: ``health.jsonl`` or ``snapshots``
        """
        if (self.folder / name).exists():
            (self.folder / name).rename(self._free_name(name))

    def go_back_to(self, step: int) -> None:
        """
        Set aside what a run has written beyond a step, for one that goes on from an earlier model: lines of
        ``health.jsonl`` and snapshots.

        :param step: environment steps of the model that goes on
        """
        lines = list(self.reader.health())
        kept = [line for line in lines if line["step"] <= step]
        if len(kept) < len(lines):
            self.set_aside("health.jsonl")
            content = "".join(json.dumps(line) + "\n" for line in kept)
            write_atomically(self.folder / "health.jsonl", content.encode())
        beyond = [each for each in self.reader.snapshot_steps() if each > step]
        if beyond:
            aside = self._free_name("snapshots")
            aside.mkdir()
            for each in beyond:
                (self.snapshots / f"{each:012d}.npz").rename(aside / f"{each:012d}.npz")

    def _free_name(self, name: str) -> Path:
        number = 1
        while (self.folder / f"{name}.{number}").exists():
            number += 1
        return self.folder / f"{name}.{number}"

    @property
    def reader(self) -> RunReader:
        """What the folder has so far."""
        return RunReader(self.folder)

    @property
    def snapshots(self) -> Path:
        return self.folder / "snapshots"

    def describe(self, **facts: Any) -> None:
        """
        Add facts to ``run.json``, in place of earlier ones of the same name.

        :param facts: JSON values by name
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        known = self.reader.facts
        content = json.dumps({"format": FORMAT, **known, **facts}, indent=2, default=str)
        write_atomically(self.folder / "run.json", content.encode())

    def health(self, step: int, figures: Mapping[str, Any]) -> None:
        """
        Append a line to ``health.jsonl``. NaN and infinity are written as null.

        :param step: environment steps so far
        :param figures: by name
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        line = json.dumps(json_ready({"step": step, **figures}), allow_nan=False) + "\n"
        with (self.folder / "health.jsonl").open("a+b") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # a run that was killed has left half a line
                    line = "\n" + line
            file.write(line.encode())

    def observation(self, observation: Mapping[str, Array]) -> None:
        """
        Store the observation that all snapshots are made of.

        :param observation: without batch dimension; one array, or one per key
        """
        self._savez(self.snapshots / "observation.npz", observation)

    def snapshot(self, step: int, activations: Mapping[str, Array]) -> list[int]:
        """
        Store one snapshot in half precision (finite values beyond +-65504 are cut to that), then thin old ones.

        :param step: environment steps so far
        :param activations: by layer, shape (units, ...)
        :return: the steps whose snapshots were dropped
        """
        halves = {
            name: np.where(np.isfinite(array), np.clip(array, -FLOAT16_MAX, FLOAT16_MAX), array).astype(np.float16)
            for name, array in activations.items()
        }
        self._savez(self.snapshots / f"{step:012d}.npz", halves)
        dropped = thinned(self.reader.snapshot_steps(), self.max_snapshots)
        for old in dropped:
            (self.snapshots / f"{old:012d}.npz").unlink(missing_ok=True)
        return dropped

    def _savez(self, path: Path, arrays: Mapping[str, Array]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, packed(arrays))


class RunReader:
    """
    Reads a run folder, however far the run came.

    :param folder: the run's folder
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @property
    def facts(self) -> dict[str, Any]:
        """What ``run.json`` says; empty where there is none."""
        path = self.folder / "run.json"
        if not path.is_file():
            return {}
        facts = json.loads(path.read_text(encoding="utf-8"))
        return facts if isinstance(facts, dict) else {}

    def health(self) -> Iterator[dict[str, Any]]:
        """The lines of ``health.jsonl`` in their order; lines that are cut short or are something else are left out."""
        path = self.folder / "health.jsonl"
        if not path.is_file():
            return
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                figures = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(figures, dict) and isinstance(figures.get("step"), int):
                yield figures

    def snapshot_steps(self) -> list[int]:
        """The steps at which there are snapshots, ascending."""
        files = (self.folder / "snapshots").glob("[0-9]*.npz")
        return sorted(int(file.stem) for file in files if file.stem.isdigit())

    def snapshot(self, step: int) -> dict[str, Array]:
        """
        One snapshot.

        :param step: one of :meth:`snapshot_steps`
        :return: activations by layer, float16, shape (units, ...)
        """
        return self._load(self.folder / "snapshots" / f"{step:012d}.npz")

    def observation(self) -> dict[str, Array] | None:
        """The observation that the snapshots are made of; None before it was chosen."""
        path = self.folder / "snapshots" / "observation.npz"
        return self._load(path) if path.is_file() else None

    @staticmethod
    def _load(path: Path) -> dict[str, Array]:
        with np.load(path) as arrays:
            return dict(arrays)
