"""
A worker of ``tune``, called with the study's name, folder, goal, heartbeat, pruner, and modules to import. What it is
to do it reads from the study, whose storage it is told in an environment variable: a command line, and a password in
it, can be read by all users of a machine.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import OptunaError
from optuna.trial import TrialState

from sb3_stable_ppo import __version__
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.common.packages import PROGRAM, import_packages
from sb3_stable_ppo.common.signals import handled
from sb3_stable_ppo.studies.space import VERSION
from sb3_stable_ppo.studies.storage import is_file, open_storage, redacted_errors, requeue
from sb3_stable_ppo.studies.study import SURPLUS, claim, n_remaining, open_study, plan_of, requeue_dead_trials
from sb3_stable_ppo.tuning.trial import Plan
from sb3_stable_ppo.zoo.registry import register

STORAGE = "SB3_STABLE_PPO_STORAGE"
VERSIONS = {"search_space": VERSION, "package": __version__}
"""What a study is of beside its plan: trials of two versions are not to be compared."""


def arguments(
    study: str, folder: Path, goal: int, heartbeat: int, pruner: str, packages: Sequence[str]
) -> tuple[str, ...]:
    """
    :return: how Python is to be called for a worker
    """
    settings = (str(folder.absolute()), str(goal), str(heartbeat), pruner)
    return ("-m", "sb3_stable_ppo.tuning.worker", study, *settings, *packages)


def work(where: str, name: str, folder: Path, goal: int, heartbeat: int, pruner: str, packages: Sequence[str]) -> None:
    """
    Trial after trial, until the study has as many as it is to have.

    :param where: the storage
    :param name: of the study
    :param folder: where the runs' folders go
    :param goal: how many trials the study is to have
    :param heartbeat: seconds between two signs of life
    :param pruner: Optuna's
    :param packages: modules that register the env
    :raises UsageError: if the storage cannot be reached, or the study is not for this version
    """
    register()
    import_packages(packages)
    if is_file(where) and not Path(where).is_file():
        raise UsageError(f"--storage {where}: there is no such file on this machine.")
    with redacted_errors(where):
        storage = open_storage(where, heartbeat)
        known = plan_of(storage, name)
        for fact, value in VERSIONS.items():
            if known.get(fact) != value:
                raise UsageError(f"The study {name!r} is of another {fact}: {known.get(fact)!r}, here {value!r}.")
        facts: dict[str, Any] = {field: known[field] for field in Plan._fields if field != "folder"}
        plan = Plan(**{**facts, "seeds": tuple(facts["seeds"])}, folder=folder)
        seed = int.from_bytes(os.urandom(4), "little")
        study = open_study(storage, name, known, pruner, seed, 2 if plan.health else 1)

        last: int | None = None

        def objective(trial: optuna.Trial) -> float | tuple[float, float]:
            nonlocal last
            last = trial.number
            claim(trial, goal)
            return plan.objective(trial)

        requeue_dead_trials(study, heartbeat)
        try:
            while n_remaining(study, goal):
                try:
                    study.optimize(objective, n_trials=1, catch=(Exception,))
                except (OptunaError, ValueError):  # it was silent for so long that its trial was taken from it
                    if last is None or study.trials[last].state is not TrialState.FAIL:
                        raise
        except KeyboardInterrupt:  # of which Optuna has made a failure
            trial = None if last is None else study.trials[last]
            if trial is not None and trial.state is TrialState.FAIL and SURPLUS not in trial.user_attrs:
                requeue(study, trial, counts=False)
            raise


def main() -> int:
    """
    :return: the exit status
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    name, folder, goal, heartbeat, pruner, *packages = sys.argv[1:]
    try:
        with handled(signal.SIGTERM), handled(signal.SIGINT):
            work(os.environ[STORAGE], name, Path(folder), int(goal), int(heartbeat), pruner, packages)
    except UsageError as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
