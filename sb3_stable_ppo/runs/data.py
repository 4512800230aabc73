"""
All that a run left behind, ours or plain SB3's or rl_zoo3's, as curves. Read here; judged and drawn elsewhere.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from sb3_stable_ppo.common.errors import UsageError, described
from sb3_stable_ppo.common.files import UNREADABLE
from sb3_stable_ppo.runs.folder import RunReader, check_format
from sb3_stable_ppo.runs.logs import (
    PROGRESS,
    TENSORBOARD,
    read_arguments,
    read_evaluations,
    read_monitors,
    read_progress,
    read_settings,
    read_tensorboard,
    with_current_tags,
)
from sb3_stable_ppo.runs.series import Series


class RunData(NamedTuple):
    """
    :param name: its folder's
    :param folder: where it is
    :param facts: ``run.json``
    :param settings: hyperparameters, as rl_zoo3 saves them
    :param curves: by SB3's names, such as ``train/approx_kl``
    :param health: the lines of ``health.jsonl``
    :param notes: what could not be read, in sentences
    """

    name: str
    folder: Path
    facts: dict[str, Any]
    settings: dict[str, Any]
    curves: dict[str, Series]
    health: list[dict[str, Any]]
    notes: list[str]

    @property
    def status(self) -> str:
        """``run.json``'s, but ``killed`` where the process that was to change it is gone."""
        status = str(self.facts.get("status", "of which no run.json tells how it ended"))
        pid, host = self.facts.get("pid"), self.facts.get("host")
        if status == "running" and isinstance(pid, int) and host == socket.gethostname() and not _is_alive(pid):
            return "killed"
        return status

    @property
    def steps(self) -> int:
        """Environment steps, as far as anything tells."""
        ends = [series.steps[-1] for series in self.curves.values() if len(series.steps)]
        ends += [line["step"] for line in self.health[-1:]]
        ends += RunReader(self.folder).snapshot_steps()[-1:]
        told = self.facts.get("num_timesteps")
        return int(max([*ends, told if isinstance(told, int) else 0]))


def read_run(folder: str | Path, below: bool = True) -> RunData:
    """
    Read a run, however far it came and whatever wrote it: ``progress.csv``, failing that TensorBoard's logs, failing
    that monitor files; ``evaluations.npz``, ``health.jsonl``, ``run.json``, snapshots.

    :param folder: the run's
    :param below: whether TensorBoard's logs may lie one folder below, as SB3's ``tensorboard_log`` has them
    :raises UsageError: if there is nothing in it that could be shown, or it has a newer format
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder.")
    notes: list[str] = []
    reader = RunReader(folder)
    curves: dict[str, Series] = {}
    for read in (read_progress, partial(read_tensorboard, below=below), read_monitors):
        if curves:
            break
        curves = _attempt(read, folder, notes)
        if curves and read is read_monitors:
            notes.append("Steps of returns and lengths are counted by the monitor files, episode by episode.")
    curves = {**_attempt(read_evaluations, folder, notes), **with_current_tags(curves)}
    facts = {**_attempt(read_arguments, folder, notes), **_attempt(lambda _: reader.facts, folder, notes)}
    check_format(facts, folder)
    settings = _attempt(read_settings, folder, notes)
    run = RunData(folder.resolve().name, folder, facts, settings, curves, [*map(_sound, reader.health())], notes)
    if not (run.curves or run.health or reader.snapshot_steps() or run.facts):
        runs = _runs_below(folder)
        inside = f" Folders in it that hold runs: {', '.join(runs)}." if runs else ""
        raise UsageError(
            f"{folder} is no run folder: nothing in it that is or has a progress.csv with a line, a TensorBoard log, "
            f"*.monitor.csv, evaluations.npz, health.jsonl, snapshots or run.json.{inside}"
        )
    if not curves:
        notes.append("No curves: there is no progress.csv, TensorBoard log or monitor file (yet).")
    if not run.health:
        notes.append("No health: HealthCallback was not on, or has not measured yet.")
    return run


def _runs_below(folder: Path, shown: int = 5) -> list[str]:
    """The outermost folders in it, at any depth, that somebody may have meant."""
    files = ("run.json", PROGRESS, TENSORBOARD)
    found = {path.parent for name in files for path in folder.rglob(name)} - {folder}
    outermost = [each for each in sorted(found) if found.isdisjoint(each.parents)]
    return [str(each.relative_to(folder)) for each in outermost[:shown]]


def _attempt(read: Callable[[Path], Mapping[str, Any]], folder: Path, notes: list[str]) -> dict[str, Any]:
    """A file that is broken, or half written, costs its own part of the page and no more."""
    try:
        return dict(read(folder))
    except UNREADABLE as error:
        notes.append(f"Not read in {folder}: {described(error, 200)}")
        return {}


def _sound(line: dict[str, Any]) -> dict[str, Any]:
    """Of a line that somebody else may have written: what is not of its kind is left out."""
    layers, parts = line.get("layers"), ("features", "policy", "rollout")
    sound = {name: value for name, value in line.items() if name not in parts or isinstance(value, dict)}
    for key in ("events", "interventions"):
        found = line.get(key)
        sound[key] = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    named = layers.items() if isinstance(layers, dict) else ()
    sound["layers"] = {str(name): layer for name, layer in named if isinstance(layer, dict)}
    return sound


def _is_alive(pid: int) -> bool:
    if os.name == "nt":  # there os.kill(pid, 0) sends Ctrl+C
        try:
            import psutil  # of the extra zoo
        except ImportError:
            return True
        return psutil.pid_exists(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
