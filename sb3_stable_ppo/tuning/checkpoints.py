"""
Checkpoints of trials: how they are written, found by the try that goes on, and removed when the trial has ended.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from optuna.study import Study
from optuna.trial import FrozenTrial

from sb3_stable_ppo.checkpoints.callback import RunCheckpoint
from sb3_stable_ppo.checkpoints.folder import CHECKPOINTS
from sb3_stable_ppo.runs.folder import RunReader
from sb3_stable_ppo.studies.storage import TRIES
from sb3_stable_ppo.studies.study import SURPLUS, effective_trials
from sb3_stable_ppo.zoo.resuming import StartedRun


class TrialCheckpoint(RunCheckpoint):
    """Writes none at the end of a run, whose results the study has then."""

    when_continued: Callable[[], None]
    """Called once a run that goes on has its state back."""

    def _continue(self) -> None:
        super()._continue()
        self.when_continued()

    def _on_training_end(self) -> None:
        pass


def folder_of(trials: Path, number: int) -> Path:
    """
    :param trials: the folder of all trials
    :param number: of a try
    :return: where its run folders are, unless it goes on with those of an earlier try
    """
    return trials / f"trial_{number}"


def broken_off_runs(trials: Path, tries: Sequence[int], seed: int) -> Iterator[StartedRun]:
    """
    The runs of a seed that earlier tries of a trial have left with a checkpoint, the newest try's first.

    :param trials: the folder of all trials
    :param tries: the numbers of the earlier tries
    :param seed: of the run
    """
    for number in reversed(tries):
        for path in sorted(folder_of(trials, number).glob("*/*/run.json")):
            try:
                run = StartedRun(path.parent, RunReader(path.parent).facts)
            except (OSError, ValueError):
                continue
            if run.facts.get("seed") == seed and run.has_checkpoint:
                yield run


def remove_checkpoints(trials: Path, trial: FrozenTrial) -> None:
    """
    Remove the checkpoints of a trial that has ended, and of its earlier tries.

    :param trials: the folder of all trials
    :param trial: its last try; one that was too many has none, and those of the earlier tries are another's
    """
    if SURPLUS not in trial.user_attrs:
        for number in (*trial.user_attrs.get(TRIES, ()), trial.number):
            for folder in folder_of(trials, number).glob(f"*/*/{CHECKPOINTS}"):
                shutil.rmtree(folder, ignore_errors=True)


def remove_all_checkpoints(trials: Path, study: Study) -> None:
    """
    Remove the checkpoints of all trials that have ended. Workers do so themselves, but for trials that were given up
    or that ended on another machine.

    :param trials: the folder of all trials
    :param study: the study
    """
    for trial in effective_trials(study).values():
        if trial.state.is_finished():
            remove_checkpoints(trials, trial)
