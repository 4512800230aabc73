"""
All that a run left behind, ours or plain SB3's or rl_zoo3's, as curves. Read here; judged and drawn elsewhere.
"""

from __future__ import annotations

import csv
import os
import socket
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sb3_stable_ppo.common.errors import UsageError, described
from sb3_stable_ppo.common.layer_names import is_critic_layer
from sb3_stable_ppo.runs.folder import RunReader

Floats = npt.NDArray[np.float64]
STEP, RETURN, EVALUATION = "time/total_timesteps", "rollout/ep_rew_mean", "eval/mean_reward"
ATARI_FRAMES = 4
SMOOTH = 100
"""SB3's ``ep_rew_mean`` is the mean of so many episodes; so is ours of monitor files."""
OLD_TAGS = {
    "guards/unit_loss": "guards/lost_unit_fraction",
    "guards/silenced": "guards/newly_inactive_fraction",
}
"""Tags that version 0.1.0 logged, and their names now. They are read for one version."""


class Series(NamedTuple):
    """A figure over a run: environment steps, ascending, and a value at each."""

    steps: Floats
    values: Floats


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


def read_run(folder: str | Path) -> RunData:
    """
    Read a run, however far it came and whatever wrote it: ``progress.csv``, failing that TensorBoard's logs, failing
    that monitor files; ``evaluations.npz``, ``health.jsonl``, ``run.json``, snapshots.

    :param folder: the run's
    :raises UsageError: if there is nothing in it that could be shown
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder.")
    notes: list[str] = []
    reader = RunReader(folder)
    curves: dict[str, Series] = {}
    for read in (_progress, _tensorboard, _monitors):
        if curves:
            break
        curves = _attempt(read, folder, notes)
        if curves and read is _monitors:
            notes.append("Steps of returns and lengths are counted by the monitor files, episode by episode.")
    curves = {**_attempt(_evaluations, folder, notes), **_with_current_tags(curves)}
    facts = {**_attempt(_arguments, folder, notes), **_attempt(lambda _: reader.facts, folder, notes)}
    settings = _attempt(_settings, folder, notes)
    run = RunData(folder.resolve().name, folder, facts, settings, curves, [*map(_sound, reader.health())], notes)
    if not (run.curves or run.health or reader.snapshot_steps() or run.facts):
        runs = sorted({str(path.parent.relative_to(folder)) for path in folder.rglob("run.json")})[:5]
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


def _attempt(read: Callable[[Path], Mapping[str, Any]], folder: Path, notes: list[str]) -> dict[str, Any]:
    """A file that is broken, or half written, costs its own part of the page and no more."""
    try:
        return dict(read(folder))
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        notes.append(f"Not read in {folder}: {described(error, 200)}")
        return {}


def _with_current_tags(curves: Mapping[str, Series]) -> dict[str, Series]:
    """A log that has a tag under both names, as of a run that went on in a newer version, keeps the steps of both."""
    found = {name: curve for name, curve in curves.items() if name not in OLD_TAGS}
    for old, new in OLD_TAGS.items():
        if old in curves:
            parts = [curves[old], *([found[new]] if new in found else [])]
            found[new] = series([point for part in parts for point in zip(*map(np.ndarray.tolist, part), strict=True)])
    return found


def _progress(folder: Path) -> dict[str, Series]:
    path = folder / "progress.csv"
    if not path.is_file():
        return {}
    points: dict[str, list[tuple[float, float]]] = {}
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        for row in csv.DictReader(file):
            step = _number(row.pop(STEP, None))
            if step is None:  # a line that was cut short
                continue
            for name, text in row.items():
                value = _number(text)
                if value is not None:
                    points.setdefault(str(name), []).append((step, value))
    return {name: series(found) for name, found in points.items()}


def _tensorboard(folder: Path) -> dict[str, Series]:
    logs = sorted({path.parent for path in folder.rglob("events.out.tfevents.*")})
    if not logs:
        return {}
    try:
        from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
            SCALARS,
            EventAccumulator,
        )
    except ImportError:
        raise OSError("TensorBoard's logs need tensorboard: pip install tensorboard") from None
    if len(logs) > 1:
        names = ", ".join(str(log.relative_to(folder)) for log in logs[:10])
        raise UsageError(f"{folder} holds the TensorBoard logs of {len(logs)} runs: name one, or several, of {names}.")
    accumulator = EventAccumulator(str(logs[0]), {SCALARS: 0})
    accumulator.Reload()
    names = accumulator.Tags()[SCALARS]
    return {name: series([(event.step, event.value) for event in accumulator.Scalars(name)]) for name in names}


def _monitors(folder: Path) -> dict[str, Series]:
    """Of all envs, in the order in which episodes ended. (SB3's AtariWrapper makes four frames a step of theirs.)"""
    episodes: list[tuple[float, float, float]] = []
    frames = 1
    for path in [*folder.glob("*.monitor.csv"), *folder.glob("monitor.csv")]:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        frames = ATARI_FRAMES if any("NoFrameskip" in line for line in lines[:1]) else frames
        for row in csv.DictReader(line for line in lines if not line.startswith("#")):
            found = [_number(row.get(name)) for name in ("t", "r", "l")]
            if None not in found:
                episodes.append(tuple(found))  # type: ignore[arg-type]
    if not episodes:
        return {}
    _, rewards, lengths = np.array(sorted(episodes)).T
    sums = np.concatenate([[0.0], rewards.cumsum()])
    ends = np.arange(1, len(rewards) + 1)
    starts = np.maximum(ends - SMOOTH, 0)
    means = (sums[ends] - sums[starts]) / (ends - starts)
    steps = lengths.cumsum() / frames
    return {RETURN: Series(steps, means), "rollout/ep_len": Series(steps, lengths)}


def _evaluations(folder: Path) -> dict[str, Series]:
    path = folder / "evaluations.npz"
    if not path.is_file():
        return {}
    with np.load(path) as arrays:
        steps, results = arrays["timesteps"], arrays["results"]
    return {EVALUATION: Series(steps.astype(np.float64), results.mean(axis=1))}


def _arguments(folder: Path) -> dict[str, Any]:
    """What rl_zoo3 was called with, of what our ``run.json`` has too."""
    found = _yaml(folder, "args.yml")
    return {name: found[name] for name in ("algo", "env", "seed") if found.get(name) is not None}


def _settings(folder: Path) -> dict[str, Any]:
    return _yaml(folder, "config.yml")


def _yaml(folder: Path, name: str) -> dict[str, Any]:
    """rl_zoo3 writes an OrderedDict of Python's as YAML; nothing but that is constructed here."""
    path = next(iter(sorted(folder.glob(f"*/{name}"))), None)
    if path is None:
        return {}
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    def ordered(loader: Any, node: Any) -> dict[str, Any]:
        (pairs,) = loader.construct_sequence(node, deep=True)
        return {str(name): value for name, value in pairs}

    Loader.add_constructor("tag:yaml.org,2002:python/object/apply:collections.OrderedDict", ordered)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name}: {error}") from error
    return content if isinstance(content, dict) else {}


def series(points: list[tuple[float, float]]) -> Series:
    """
    :param points: (step, value), in the order in which they were written; of one step the last counts
    """
    unique = dict(points)
    steps = np.array(sorted(unique), dtype=np.float64)
    return Series(steps, np.array([unique[step] for step in steps], dtype=np.float64))


def health_series(health: list[dict[str, Any]], *path: str) -> Series:
    """
    One figure of the lines of ``health.jsonl``; lines without it are passed over, null is no number.

    :param health: the lines
    :param path: such as ``"layers", "conv1", "live"``
    """
    return series(list(_walk(health, path)))


def _walk(health: list[dict[str, Any]], path: tuple[str, ...]) -> Iterator[tuple[float, float]]:
    for line in health:
        found: Any = line
        for key in path:
            found = found.get(key, KeyError) if isinstance(found, dict) else KeyError
        if found is None or isinstance(found, (int, float)):
            yield line["step"], np.nan if found is None else float(found)


def _sound(line: dict[str, Any]) -> dict[str, Any]:
    """Of a line that somebody else may have written: what is not of its kind is left out."""
    events = line.get("events")
    layers, parts = line.get("layers"), ("features", "policy")
    sound = {name: value for name, value in line.items() if name not in parts or isinstance(value, dict)}
    sound["events"] = [event for event in events if isinstance(event, dict)] if isinstance(events, list) else []
    named = layers.items() if isinstance(layers, dict) else ()
    sound["layers"] = {str(name): layer for name, layer in named if isinstance(layer, dict)}
    return sound


def _number(text: Any) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def active_alarms(health: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """
    Those that were raised and not cleared, by name.

    :param health: lines of ``health.jsonl``
    """
    active: dict[str, dict[str, Any]] = {}
    for line in health:
        for event in line.get("events") or ():
            if event.get("raised"):
                active[str(event.get("name"))] = event
            else:
                active.pop(str(event.get("name")), None)
    return active


def live_shares(health: list[dict[str, Any]]) -> dict[str, Series]:
    """
    By layer, the share of its units that are live.

    :param health: lines of ``health.jsonl``
    """
    names: dict[str, None] = {}
    for line in health:
        names.update(dict.fromkeys(line.get("layers") or {}))
    shares = {}
    for name in names:
        live, units = (health_series(health, "layers", name, key) for key in ("live", "units"))
        shares[name] = Series(live.steps, live.values / np.maximum(units.values, 1))
    return shares


def least_live_series(health: list[dict[str, Any]]) -> Series:
    """
    At each step the share of live units of the layer that has the smallest, among those the actions depend on.

    :param health: lines of ``health.jsonl``
    :return: empty where no such layer was measured
    """
    actor = [found for layer, found in live_shares(health).items() if not is_critic_layer(layer) and len(found.steps)]
    if not actor:
        return series([])
    steps = np.unique(np.concatenate([found.steps for found in actor]))
    return Series(steps, np.nanmin([np.interp(steps, *found) for found in actor], axis=0))


def least_live_share(health: list[dict[str, Any]]) -> float | None:
    """
    The share of live units at the end, of the layer that has the smallest, among those the actions depend on.

    :param health: lines of ``health.jsonl``
    :return: from 0 to 1; None if the last line has no such layer, as when the network is numerically broken
    """
    values = least_live_series(health[-1:]).values
    return float(values[-1]) if len(values) else None
