"""
The files that SB3 and rl_zoo3 leave of a run: read as they are, also half written ones.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.runs.log_rows import Row, curves_of
from sb3_stable_ppo.runs.series import EVALUATION, RETURN, STEP, Series, series

ATARI_FRAMES = 4
SMOOTH = 100
"""SB3's ``ep_rew_mean`` is the mean of so many episodes; so is ours of monitor files."""
PROGRESS, TENSORBOARD = "progress.csv", "events.out.tfevents.*"
"""The files of SB3's two loggers."""
OLD_TAGS = {
    "guards/unit_loss": "guards/lost_unit_fraction",
    "guards/silenced": "guards/newly_inactive_fraction",
}
"""Tags that version 0.1.0 logged, and their names now. They are read for one version."""


def with_current_tags(curves: Mapping[str, Series]) -> dict[str, Series]:
    """A log that has a tag under both names, as of a run that went on in a newer version, keeps the steps of both."""
    found = {name: curve for name, curve in curves.items() if name not in OLD_TAGS}
    for old, new in OLD_TAGS.items():
        if old in curves:
            parts = [curves[old], *([found[new]] if new in found else [])]
            found[new] = series([point for part in parts for point in zip(*map(np.ndarray.tolist, part), strict=True)])
    return found


def read_progress(folder: Path) -> dict[str, Series]:
    """SB3's ``progress.csv``; empty where there is none."""
    path = folder / PROGRESS
    if not path.is_file():
        return {}
    rows = []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        for line in _csv_rows(file):
            step = _number(line.pop(STEP, None))
            if step is not None:  # else the line was cut short
                found = {str(name): _number(text) for name, text in line.items()}
                rows.append(Row(step, {name: value for name, value in found.items() if value is not None}))
    return curves_of(rows)


def read_tensorboard(folder: Path, below: bool = True) -> dict[str, Series]:
    """
    The scalars of TensorBoard's logs, which lie in the folder or in one of its own (SB3's ``PPO_1``). Logs farther
    below are those of other runs.

    :param folder: the run's
    :param below: whether to look into the folder's own folders
    :raises UsageError: if the folder holds the logs of several runs
    """
    patterns = [TENSORBOARD, *([f"*/{TENSORBOARD}"] if below else [])]
    logs = sorted({path.parent for pattern in patterns for path in folder.glob(pattern)})
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
    figures: dict[int, dict[str, float]] = {}  # by step: which of them one dump wrote, the file does not tell
    for name in accumulator.Tags()[SCALARS]:
        for event in accumulator.Scalars(name):
            figures.setdefault(event.step, {})[name] = event.value
    return curves_of(Row(step, figures[step]) for step in sorted(figures))


def read_monitors(folder: Path) -> dict[str, Series]:
    """Of all envs, in the order in which episodes ended. (SB3's AtariWrapper makes four frames a step of theirs.)"""
    episodes: list[tuple[float, float, float]] = []
    frames = 1
    for path in [*folder.glob("*.monitor.csv"), *folder.glob("monitor.csv")]:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        frames = ATARI_FRAMES if any("NoFrameskip" in line for line in lines[:1]) else frames
        for row in _csv_rows(line for line in lines if not line.startswith("#")):
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


def read_evaluations(folder: Path) -> dict[str, Series]:
    """The mean returns that SB3's EvalCallback has stored."""
    path = folder / "evaluations.npz"
    if not path.is_file():
        return {}
    with np.load(path) as arrays:
        steps, results = arrays["timesteps"], arrays["results"]
    return {EVALUATION: Series(steps.astype(np.float64), results.mean(axis=1))}


def read_arguments(folder: Path) -> dict[str, Any]:
    """What rl_zoo3 was called with, of what our ``run.json`` has too."""
    found = _yaml(folder, "args.yml")
    return {name: found[name] for name in ("algo", "env", "seed") if found.get(name) is not None}


def read_settings(folder: Path) -> dict[str, Any]:
    """The hyperparameters, as rl_zoo3 saves them."""
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

    def plain(loader: Any, tag: str, node: Any) -> Any:
        """A class by its name; of any other object of Python's what it was made from."""
        if isinstance(node, yaml.ScalarNode):
            return loader.construct_scalar(node) or tag.partition(":")[2]
        is_list = isinstance(node, yaml.SequenceNode)
        return (loader.construct_sequence if is_list else loader.construct_mapping)(node, deep=True)

    Loader.add_multi_constructor("tag:yaml.org,2002:python/", plain)
    Loader.add_constructor("tag:yaml.org,2002:python/object/apply:collections.OrderedDict", ordered)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name}: {error}") from error
    return content if isinstance(content, dict) else {}


def _csv_rows(lines: Iterable[str]) -> Iterator[dict[str, str]]:
    """Line by line, so that a quote or a NUL byte on a damaged one costs that line, not all that follow."""
    names: list[str] = []
    for line in lines:
        try:
            fields = next(csv.reader([line.replace("\0", "")]), [])
        except csv.Error:
            continue
        if names:
            yield dict(zip(names, fields, strict=False))
        names = names or fields


def _number(text: Any) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None
