"""
Optuna studies that several processes work on: what they are of, which trials are to be done, and by whom.

Workers begin trials until there are as many as were asked for. If two workers begin the last one at the same time, the
one with the smaller number counts, and the other ends its trial at once; so the totals are right however many workers
there are. A trial whose worker died is enqueued again, and both tries count as one trial.
"""

from __future__ import annotations

import copy
import datetime
import json
import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import BaseStorage, fail_stale_trials
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.studies.sampler import SeededByTrial
from sb3_stable_ppo.studies.signs_of_life import has_died
from sb3_stable_ppo.studies.storage import FIRST, HEARTBEAT, MISSED, is_file, requeue
from sb3_stable_ppo.studies.worker_names import is_gone, own_name

WORKER, SURPLUS = "worker", "surplus"
MAX_FAILURES = 5
"""After so many trials in a row that fail with an error, the others would fail too."""
PRUNERS = ("median", "halving", "none")
SAMPLERS = ("tpe", "random")
STARTUP_TRIALS = 10
"""Trials whose parameters are drawn at random before TPE models them; rl_zoo3's default too."""


class SurplusTrial(Exception):
    """The study has enough trials without this one, or another worker does it."""


def open_study(
    storage: BaseStorage,
    name: str,
    plan: Mapping[str, Any],
    pruner: str,
    seed: int,
    directions: int,
    sampler: str = "tpe",
    n_startup_trials: int = STARTUP_TRIALS,
) -> Study:
    """
    Make a study, or go on with one of the same plan.

    :param storage: where
    :param name: of the study
    :param plan: what it is of (algorithm, env, steps, versions, …), in JSON's types; kept with it
    :param pruner: one of ``PRUNERS``
    :param seed: of the sampler, for all workers: see :class:`~sb3_stable_ppo.studies.sampler.SeededByTrial`
    :param directions: how many values a trial has; all are maximised
    :param sampler: one of ``SAMPLERS``
    :param n_startup_trials: trials before TPE begins
    :raises UsageError: if there is one of that name and another plan
    """
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        load_if_exists=True,
        directions=[StudyDirection.MAXIMIZE] * directions,
        sampler=SeededByTrial(lambda own: _sampler(sampler, own, n_startup_trials), seed),
        pruner=_pruner(pruner),
    )
    known = study.user_attrs.get("plan")
    plan = json.loads(json.dumps(plan))
    if known is None and not study.get_trials(deepcopy=False):
        study.set_user_attr("plan", plan)
        return study
    differing = [key for key in plan if (known or {}).get(key) != plan[key]]
    if differing:
        key = differing[0]
        theirs, ours = _differing((known or {}).get(key), plan[key])
        raise UsageError(
            f"The study {name!r} is of another {key}: {_short(theirs)}, here {_short(ours)}. "
            "Choose another study (--study), or the same settings."
        )
    return study


def plan_of(storage: BaseStorage, name: str) -> dict[str, Any]:
    """
    :param storage: where
    :param name: of a study
    :return: what it is of
    :raises UsageError: if there is none of that name, or it is not one of ours
    """
    try:
        study_id = storage.get_study_id_from_name(name)
    except KeyError:
        raise UsageError(f"There is no study {name!r} in this storage: do all machines see the same one?") from None
    plan = storage.get_study_user_attrs(study_id).get("plan")
    if not isinstance(plan, dict):
        raise UsageError(f"The study {name!r} was not made by tune: choose another study (--study).")
    return plan


def _differing(theirs: Any, ours: Any) -> tuple[Any, Any]:
    """Both values; of two mappings only what differs."""
    if not (isinstance(theirs, dict) and isinstance(ours, dict)):
        return theirs, ours
    same = {key for key in theirs.keys() & ours.keys() if theirs[key] == ours[key]}
    first, second = ({key: value for key, value in side.items() if key not in same} for side in (theirs, ours))
    return first, second


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 100 else f"{text[:100]}…"


def _sampler(name: str, seed: int, n_startup_trials: int) -> optuna.samplers.BaseSampler:
    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # of multivariate, group and constant_liar
        return optuna.samplers.TPESampler(
            seed=seed,
            multivariate=True,
            group=True,  # some parameters are sampled in some trials only
            n_startup_trials=n_startup_trials,
            constant_liar=True,  # keeps workers from the parameters of trials that run; the default only since Optuna 5
        )


def _pruner(name: str) -> optuna.pruners.BasePruner:
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1)
    return optuna.pruners.SuccessiveHalvingPruner() if name == "halving" else optuna.pruners.NopPruner()


def goal_of(study: Study, total: int) -> int:
    """
    How many trials the study needs for ``total`` of them not to fail: each failed one of earlier calls is replaced.

    :param study: the study
    :param total: trials wanted
    """
    return total + sum(trial.state is TrialState.FAIL for trial in effective_trials(study).values())


def n_remaining(study: Study, goal: int) -> int:
    """
    How many trials no worker has begun yet.

    :param study: the study
    :param goal: of :func:`goal_of`
    """
    known = effective_trials(study).values()
    return max(goal - len(known), 0) + sum(trial.state is TrialState.WAITING for trial in known)


def running(study: Study) -> list[FrozenTrial]:
    """
    The trials that a worker has begun and not ended.

    :param study: the study
    """
    trials = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [trial for trial in trials if SURPLUS not in trial.user_attrs]


def check_failures(study: Study, since: int) -> None:
    """
    Stop where trial after trial fails with an error, as a broken environment makes them. Trials that were pruned, whose
    worker died or was interrupted are no such failures.

    :param study: the study
    :param since: number of the first trial that counts: an earlier call may have failed for a cause that is mended
    :raises UsageError: if the last ``MAX_FAILURES`` trials failed
    """
    ended = [trial for trial in study.get_trials(deepcopy=False) if trial.number >= since and trial.state.is_finished()]
    ended = [trial for trial in ended if trial.state is not TrialState.FAIL or "error" in trial.user_attrs]
    ended.sort(key=lambda trial: trial.datetime_complete or datetime.datetime.min)
    last = ended[-MAX_FAILURES:]
    if len(last) == MAX_FAILURES and all(trial.state is TrialState.FAIL for trial in last):
        raise UsageError(
            f"{MAX_FAILURES} trials in a row failed, the last with {last[-1].user_attrs['error'].rstrip('.')}. "
            "Mend the cause; then the same command goes on."
        )


def claim(trial: Trial, goal: int) -> None:
    """
    Write this process' name into a trial's user attributes.

    :param trial: that has just begun
    :param goal: of :func:`goal_of`
    :raises SurplusTrial: if there are enough trials before it, or another worker tries the same one again
    """
    first = trial.user_attrs.get(FIRST, trial.number)
    known = effective_trials(trial.study)
    if sum(number < first for number in known) >= goal or known[first].number != trial.number:
        trial.set_user_attr(SURPLUS, True)
        raise SurplusTrial
    trial.set_user_attr(WORKER, own_name())


def requeue_dead_trials(study: Study, heartbeat: int = HEARTBEAT) -> int:
    """
    Fail the trials whose workers are dead, and enqueue each again, ``MAX_RETRIES`` times at most. In a database a
    worker without heartbeats is dead, which Optuna's ``fail_stale_trials`` finds. On this machine a worker is dead if
    its process has ended; of a journal, also if its sign of life was left behind, as after a restart of the machine
    (:func:`~sb3_stable_ppo.studies.signs_of_life.has_died`).

    :param study: the study
    :param heartbeat: seconds between two heartbeats
    :return: how many trials were found by their process or its sign
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        fail_stale_trials(study)
    where = str(getattr(study._storage, "where", ""))
    dead = [trial for trial in running(study) if _is_dead(trial, MISSED * heartbeat, where)]
    for trial in dead:
        try:
            study.tell(trial.number, state=TrialState.FAIL)
        except (UpdateFinishedTrialError, ValueError):
            continue  # another launcher ended it since it was looked at, and enqueues it
        requeue(study, copy.deepcopy(trial))
    return len(dead)


def _is_dead(trial: FrozenTrial, timeout_s: float, where: str) -> bool:
    worker = trial.user_attrs.get(WORKER)
    if worker is not None:
        return is_gone(worker) or (is_file(where) and has_died(where, worker))
    began = trial.datetime_start  # its worker died before it wrote its name, or is about to write it
    return began is not None and (datetime.datetime.now() - began).total_seconds() > timeout_s


def effective_trials(study: Study) -> dict[int, FrozenTrial]:
    """
    The tries that count, one of each trial, by the number of the trial's first try: the first that did not fail, or
    else the last.

    :param study: the study
    """
    counting: dict[int, FrozenTrial] = {}
    for trial in study.get_trials(deepcopy=False):
        if SURPLUS not in trial.user_attrs:
            first = trial.user_attrs.get(FIRST, trial.number)
            if first not in counting or counting[first].state is TrialState.FAIL:
                counting[first] = trial
    return counting


def best_trials(study: Study) -> list[FrozenTrial]:
    """
    The best trial of one objective, or the Pareto front of two with the best return first.

    :param study: the study
    :raises UsageError: if no trial is complete
    """
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        raise UsageError(f"The study {study.study_name!r} has no completed trial (yet).")
    return sorted(study.best_trials, key=lambda trial: trial.values, reverse=True)
