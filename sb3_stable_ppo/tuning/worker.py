"""
A worker of ``tune``: a process that does trials of a study until there are enough.

Its arguments are the study's name, the folder, the goal, the heartbeat, how often checkpoints are written, the pruner,
the sampler, the number of its startup trials, and modules to import. It reads the plan of the trials from the study.
The storage is in an environment variable, because all users of a machine can read a command line, and a password in it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import optuna
from optuna.exceptions import OptunaError
from optuna.trial import FrozenTrial, TrialState

from sb3_stable_ppo import __version__
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.common.packages import PROGRAM, import_packages
from sb3_stable_ppo.common.signals import CHECKPOINT_SIGNAL, handled, ignored, interruptions, was_interrupted
from sb3_stable_ppo.parallel.local import EXIT_USAGE
from sb3_stable_ppo.studies.signs_of_life import sign_of_life
from sb3_stable_ppo.studies.space import SPACES
from sb3_stable_ppo.studies.storage import is_file, open_storage, requeue
from sb3_stable_ppo.studies.study import (
    STARTUP_TRIALS,
    SURPLUS,
    check_failures,
    claim,
    n_remaining,
    open_study,
    plan_of,
    requeue_dead_trials,
)
from sb3_stable_ppo.tuning.checkpoints import remove_checkpoints
from sb3_stable_ppo.tuning.trial import Plan
from sb3_stable_ppo.zoo.checkpointing import CheckpointOptions
from sb3_stable_ppo.zoo.registry import register

STORAGE = "SB3_STABLE_PPO_STORAGE"
USUAL = CheckpointOptions()


def arguments(
    study: str,
    folder: Path,
    goal: int,
    heartbeat: int,
    pruner: str,
    packages: Sequence[str],
    sampler: str = "tpe",
    n_startup_trials: int = STARTUP_TRIALS,
    checkpoints: CheckpointOptions = USUAL,
) -> tuple[str, ...]:
    """
    :return: what follows ``python`` on the command line of a worker; see :func:`work`
    """
    interval = json.dumps([checkpoints.minutes, checkpoints.steps])
    settings = (str(folder.absolute()), str(goal), str(heartbeat), interval, pruner, sampler, str(n_startup_trials))
    return ("-m", "sb3_stable_ppo.tuning.worker", study, *settings, *packages)


def work(
    where: str,
    name: str,
    folder: Path,
    goal: int,
    heartbeat: int,
    pruner: str,
    packages: Sequence[str],
    sampler: str = "tpe",
    n_startup_trials: int = STARTUP_TRIALS,
    checkpoints: CheckpointOptions = USUAL,
) -> None:
    """
    Do one trial after the other, until the study has enough. A signal interrupts training alone, so that each trial
    that was begun has ended and is enqueued again.

    :param where: the storage
    :param name: of the study
    :param folder: where the trials' run folders go
    :param goal: how many trials the study needs
    :param heartbeat: seconds between two heartbeats
    :param pruner: one of ``studies.study.PRUNERS``
    :param packages: modules that register the environment
    :param sampler: one of ``studies.study.SAMPLERS``
    :param n_startup_trials: trials before TPE begins
    :param checkpoints: how often runs write one
    :raises UsageError: if the storage cannot be used, the study is of another version of this package, or trial after
        trial fails
    """
    register()
    import_packages(packages)
    if is_file(where) and not Path(where).is_file():
        raise UsageError(f"storage (--storage) {where}: there is no such file on this machine.")
    storage = open_storage(where, heartbeat)
    known = plan_of(storage, name)
    for fact, values in (("package", [__version__]), ("search_space", SPACES)):
        if known.get(fact) not in values:
            here = " or ".join(map(repr, values))
            raise UsageError(f"The study {name!r} is of another {fact}: {known.get(fact)!r}, here {here}.")
    plan = Plan.of(known, folder)._replace(checkpoints=checkpoints)
    study = open_study(storage, name, known, pruner, plan.seeds[0], 2 if plan.health else 1, sampler, n_startup_trials)
    since = len(study.get_trials(deepcopy=False))
    last: int | None = None

    def objective(trial: optuna.Trial) -> float | tuple[float, float]:
        nonlocal last
        last = trial.number
        claim(trial, goal)
        with interruptions(allowed=True):
            return plan.objective(trial)

    def clear(_: optuna.Study, trial: FrozenTrial) -> None:
        remove_checkpoints(folder, trial)

    with interruptions(allowed=False), sign_of_life(where) if is_file(where) else nullcontext():
        requeue_dead_trials(study, heartbeat)
        try:
            while n_remaining(study, goal):
                with interruptions(allowed=True):
                    pass  # what came since the last trial's end
                try:
                    study.optimize(objective, n_trials=1, catch=(Exception,), callbacks=[clear])
                except (OptunaError, ValueError):  # silent for too long, the trial was taken from this worker
                    if last is None or study.trials[last].state is not TrialState.FAIL:
                        raise
                if was_interrupted() and last is not None and study.trials[last].state is TrialState.FAIL:
                    raise KeyboardInterrupt  # in whose place the trial has raised another error
                check_failures(study, since)
        except KeyboardInterrupt:  # Optuna has failed the trial
            trial = None if last is None else study.trials[last]
            if trial is not None and trial.state is TrialState.FAIL and SURPLUS not in trial.user_attrs:
                requeue(study, trial, counts=False)
            raise


def main() -> int:
    """
    Call :func:`work` with the arguments of the command line.

    :return: the exit status
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    name, folder, goal, heartbeat, interval, pruner, sampler, startup, *packages = sys.argv[1:]
    try:
        with handled(signal.SIGTERM), handled(signal.SIGINT), ignored(CHECKPOINT_SIGNAL):
            settings = (int(goal), int(heartbeat), pruner, packages, sampler, int(startup))
            work(os.environ[STORAGE], name, Path(folder), *settings, CheckpointOptions(*json.loads(interval)))
    except UsageError as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
