"""
Logs that go on where a checkpoint was: SB3's writers would empty ``progress.csv``, ``progress.json`` and ``log.txt``.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch as th
from stable_baselines3.common.logger import (
    CSVOutputFormat,
    HumanOutputFormat,
    JSONOutputFormat,
    KVWriter,
    Logger,
    TensorBoardOutputFormat,
    make_output_format,
)

ITERATIONS = "time/iterations"
"""A count that SB3 keeps within ``learn()``, so that it begins anew in each."""
GROWING = {"log": "log.txt", "json": "progress.json"}
"""Files that only grow: their length tells where the checkpoint was."""
FILES = {"csv": "progress.csv", **GROWING}
LINES, MONITORS = "health.jsonl", "*.monitor.csv"
"""HealthCallback's and the Monitors', which only grow too."""


class ContinuedLogger(Logger):
    """
    SB3's Logger, in which the count of iterations goes on.

    :param folder: the logging location; None where nobody asked for one
    :param output_formats: the writers
    :param iterations: those before the checkpoint
    """

    def __init__(self, folder: str | None, output_formats: list[KVWriter], iterations: int) -> None:
        super().__init__(folder, output_formats)
        self.iterations = iterations

    def record(self, key: str, value: Any, exclude: str | tuple[str, ...] | None = None) -> None:
        super().record(key, value + self.iterations if key == ITERATIONS else value, exclude)


class ContinuedInterval(int):
    """
    A ``log_interval`` for ``learn()`` that goes on. On-policy, SB3 logs where ``iteration % log_interval == 0``, with
    an iteration that begins anew; Python asks the class on the right first, as it is a kind of int.

    >>> 1 % ContinuedInterval(3, before=2)
    0

    :param interval: rollouts between two logs
    :param before: rollouts before the checkpoint
    """

    before: int

    def __new__(cls, interval: int, before: int) -> ContinuedInterval:
        number = super().__new__(cls, interval)
        number.before = before
        return number

    def __rmod__(self, iteration: int) -> int:
        return (iteration + self.before) % int(self)


class AppendingCSV(CSVOutputFormat):
    """
    SB3's writer, which goes on with a file. Columns that come later are added to the lines that are there, as SB3 does.

    :param filename: the file, which exists
    """

    def __init__(self, filename: str) -> None:
        path = Path(filename)
        self.file = path.open("r+", encoding="utf-8")
        header = self.file.readline().rstrip("\n")
        self.keys: list[str] = header.split(",") if header else []
        self.separator, self.quotechar = ",", '"'
        self.file.seek(0, os.SEEK_END)


class AppendingJSON(JSONOutputFormat):
    """
    SB3's writer, which goes on with a file.

    :param filename: the file
    """

    def __init__(self, filename: str) -> None:
        self.file = Path(filename).open("a", encoding="utf-8")  # noqa: SIM115  # closed by close()


class AppendingText(HumanOutputFormat):
    """
    SB3's writer, which goes on with a file.

    :param filename: the file
    """

    def __init__(self, filename: str) -> None:
        super().__init__(Path(filename).open("a", encoding="utf-8"))  # noqa: SIM115  # closed by close()
        self.own_file = True


class PurgingTensorBoard(TensorBoardOutputFormat):
    """
    SB3's writer, by which TensorBoard hides what a run that was killed has written after the checkpoint.

    :param folder: the folder of the events
    :param step: of the checkpoint
    """

    def __init__(self, folder: str, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(log_dir=folder, purge_step=step + 1)
        self._is_closed = False


def save_logs(
    logger: Logger, run_folder: Path, others: Iterable[Path], target: Path
) -> tuple[dict[str, Any], list[str]]:
    """
    :param logger: the model's
    :param run_folder: paths within it are kept relative to it, so that it can be moved
    :param others: further folders that may hold a ``health.jsonl``
    :param target: a folder of the checkpoint, for a copy of ``progress.csv``: its header is rewritten in place, so that
        a kill may tear it
    :return: what :func:`continued_logger` needs, and what cannot be continued, in words
    """
    folder = Path(logger.get_dir() or ".")
    formats, problems, lengths, places = [], [], {}, {}
    for writer in logger.output_formats:
        name = _name_of(writer)
        if name is None:
            problems.append(f"the log writer {type(writer).__name__} is not continued")
            continue
        place = Path(writer.file.name) if isinstance(writer, (CSVOutputFormat, JSONOutputFormat)) else None
        if name == "log":
            place = Path(writer.file.name)  # type: ignore[attr-defined]
        if place is not None and place.absolute() != (folder / FILES[name]).absolute():
            problems.append(f"the log {place.name} is not continued, only {FILES[name]} is")
            continue
        formats.append(name)
        if name == "csv":
            target.mkdir(exist_ok=True)
            shutil.copyfile(folder / "progress.csv", target / "progress.csv")
        elif name == "tensorboard":
            places[name] = _relative(Path(writer.writer.log_dir), run_folder)  # type: ignore[attr-defined]
        elif name in GROWING:
            lengths[_relative(folder / GROWING[name], run_folder)] = (folder / GROWING[name]).stat().st_size
    for other in (run_folder, *others):
        path = other / LINES
        lengths[_relative(path, run_folder)] = path.stat().st_size if path.is_file() else 0
    for path in run_folder.glob(MONITORS):
        lengths[_relative(path, run_folder)] = path.stat().st_size
    facts = {
        "folder": _relative(folder, run_folder),
        "formats": formats,
        "places": places,
        "lengths": lengths,
        "pending": _pending(logger),
    }
    return facts, problems


def cut_logs(facts: dict[str, Any], run_folder: Path, source: Path) -> None:
    """
    Take away what was logged after the checkpoint.

    :param facts: of :func:`save_logs`
    :param run_folder: where the run is now
    :param source: the folder of the checkpoint with a copy of ``progress.csv``
    """
    folder = run_folder / facts["folder"]
    for name, length in facts["lengths"].items():
        path = run_folder / name
        if path.is_file() and path.stat().st_size > length:
            os.truncate(path, length)
        elif path.is_file() and path.stat().st_size < length and path.match(MONITORS):
            warnings.warn(
                f"{path} has lost what the run had written by the checkpoint: Monitor empties its file where an env is "
                "built. Build the env of a run that goes on with monitor_kwargs={'override_existing': False}.",
                stacklevel=4,
            )
    if (source / "progress.csv").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / "progress.csv", folder / "progress.csv")


def continued_logger(facts: dict[str, Any], run_folder: Path, step: int, iterations: int, is_asked: bool) -> Logger:
    """
    :param facts: of :func:`save_logs`
    :param run_folder: where the run is now
    :param step: of the checkpoint
    :param iterations: rollouts before the checkpoint
    :param is_asked: whether someone asked for the folder of the logs
    :return: a logger with the writers of the first run, which go on
    """
    folder = run_folder / facts["folder"]
    places = facts.get("places", {})  # of logs that are elsewhere
    writers = [_continued(name, run_folder / places.get(name, facts["folder"]), step) for name in facts["formats"]]
    return ContinuedLogger(str(folder) if is_asked else None, writers, iterations)


def set_pending(logger: Logger, facts: dict[str, Any]) -> None:
    """
    Values that were recorded and not yet written.

    :param logger: the model's
    :param facts: of :func:`save_logs`
    """
    for name, values in facts["pending"].items():
        found: dict[str, Any] = getattr(logger, name)
        found.clear()
        found.update(values)


def _pending(logger: Logger) -> dict[str, Any]:
    """Numbers and words; pictures and videos are not waited for."""
    values = {key: each for key, each in logger.name_to_value.items() if _is_plain(each)}
    return {
        "name_to_value": values,
        "name_to_count": {key: logger.name_to_count[key] for key in values if key in logger.name_to_count},
        "name_to_excluded": {key: logger.name_to_excluded[key] for key in values},
    }


def _is_plain(value: Any) -> bool:
    return isinstance(value, (bool, int, float, str, th.Tensor)) or type(value).__module__ == "numpy"


def _name_of(writer: Any) -> str | None:
    if isinstance(writer, HumanOutputFormat):
        return "log" if writer.own_file else "stdout"
    kinds: tuple[tuple[type[KVWriter], str], ...] = (
        (CSVOutputFormat, "csv"),
        (JSONOutputFormat, "json"),
        (TensorBoardOutputFormat, "tensorboard"),
    )
    return next((name for kind, name in kinds if isinstance(writer, kind)), None)


def _continued(name: str, folder: Path, step: int) -> KVWriter:
    if name == "tensorboard":
        return PurgingTensorBoard(str(folder), step)
    makers = {"csv": ("progress.csv", AppendingCSV), "json": (GROWING["json"], AppendingJSON)}
    file, maker = makers.get(name, (GROWING["log"], AppendingText))
    if name == "stdout" or (name == "csv" and not (folder / file).is_file()):
        return make_output_format(name, str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    return maker(str(folder / file))


def _relative(path: Path, run_folder: Path) -> str:
    path, run_folder = path.absolute(), run_folder.absolute()
    return path.relative_to(run_folder).as_posix() if path.is_relative_to(run_folder) else str(path)
