"""
``train --check-determinism``: the same command twice, each in a new process, and where the two runs part.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.determinism import events as of
from sb3_stable_ppo.determinism.check import compared_runs
from sb3_stable_ppo.determinism.comparison import Comparison
from sb3_stable_ppo.determinism.events import Record, read_record, write_record
from sb3_stable_ppo.determinism.hints import ARITHMETIC
from sb3_stable_ppo.determinism.recorder import DEFAULT_UPDATES, RunRecorder
from sb3_stable_ppo.zoo.manager import StableExperimentManager

RECORD = "--record-run"
"""The hidden flag of ``train`` by which each of the two processes writes what it has done."""
ERROR_LINES = 15


class Trial(NamedTuple):
    """
    A cause that can be put to the test: the check is made again without it.

    :param told: what is done, in words
    :param environment: variables of the environment that exclude the cause
    :param flags: of ``train`` that exclude it
    :param is_open: whether what was found can have this cause
    """

    told: str
    environment: dict[str, str]
    flags: tuple[str, ...]
    is_open: Callable[[Comparison, Record], bool]


def _hash_is_random(_: Comparison, record: Record) -> bool:
    return record.facts["environment"]["PYTHONHASHSEED"] in (None, "random")


def _threads_share_sums(found: Comparison, record: Record) -> bool:
    is_torch = found.first is not None and found.first.kind in ARITHMETIC and found.first.phase != of.START
    return is_torch and record.facts["device"] == "cpu" and record.facts["threads"]["torch"] > 1


TRIALS = (
    Trial("PYTHONHASHSEED=0 in the environment", {"PYTHONHASHSEED": "0"}, (), _hash_is_random),
    Trial(
        "one thread (OMP_NUM_THREADS=1 in the environment)",
        {"OMP_NUM_THREADS": "1"},
        ("--num-threads", "1"),
        _threads_share_sums,
    ),
)


class RecordedManager(StableExperimentManager):
    """A run that is recorded, and ends after a few updates."""

    record_to: Path

    def create_callbacks(self) -> None:
        """As ours, with the recorder before all others: RunCheckpoint wants to be the last."""
        super().create_callbacks()
        self.recorder = RunRecorder(DEFAULT_UPDATES)
        self.callbacks.insert(0, self.recorder)

    def learn(self, model: BaseAlgorithm) -> None:
        """
        As ours.

        :param model: the model to train
        """
        super().learn(model)
        write_record(self.record_to, self.recorder.record)


def recorded_manager(path: str) -> type[StableExperimentManager]:
    """
    A manager that writes a record of its run.

    :param path: of the new file
    """
    return type("RecordedManager", (RecordedManager,), {"record_to": Path(path)})


def check_command(flags: list[str], say: Callable[[str], object]) -> Comparison:
    """
    Train twice for a few updates, each time in a new process and a temporary folder; if the runs differ, find out
    whether they still do without randomly hashed strings, and with one thread.

    :param flags: of ``train``; without a seed, 0 is used, as rl_zoo3 would draw one
    :param say: tells of the progress
    :return: what differs first, with hints
    :raises UsageError: if the run fails, or ends before its first update
    """
    say(f"two runs of {DEFAULT_UPDATES} updates, each in a process of its own")
    first, second = _recorded_twice(flags, {})
    found = compared_runs(first, second)
    hints = list(found.hints)
    for trial in TRIALS:
        if found.first is not None and trial.is_open(found, first):
            say(f"they differ; two more with {trial.told}")
            again = compared_runs(*_recorded_twice([*flags, *trial.flags], trial.environment))
            if again.is_deterministic:
                hints.insert(0, f"Tried: with {trial.told}, two runs do not differ.")
            else:
                hints.append(f"Tried: with {trial.told}, two runs differ too; first in {again.first}.")
    return found._replace(hints=tuple(hints))


def _recorded_twice(flags: list[str], environment: Mapping[str, str]) -> list[Record]:
    with tempfile.TemporaryDirectory(prefix="check_determinism_") as folder:
        return [_recorded(flags, environment, Path(folder, name)) for name in ("first", "second")]


def _recorded(flags: list[str], environment: Mapping[str, str], folder: Path) -> Record:
    path = folder / "record.jsonl"
    folder.mkdir()
    command = [sys.executable, "-m", "sb3_stable_ppo", "train", "--seed", "0", *flags, RECORD, str(path)]
    command += ["--no-report", "--no-progress", "--log-folder", str(folder / "logs")]
    command += ["--tensorboard-log", str(folder / "tensorboard")]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    if not path.is_file():
        told = (done.stderr.strip() or done.stdout.strip()).splitlines()[-ERROR_LINES:]
        raise UsageError(f"The run itself fails (exit status {done.returncode}):\n" + "\n".join(told))
    return read_record(path)
