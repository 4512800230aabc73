"""
Optuna studies that several processes work on: where they are kept, what they are of, which trials are to be done.

The trials of a study are planned beforehand, as Optuna's waiting trials, which a storage hands out once each; a worker
that finds none left stops. So the totals are right however many workers there are, and a trial whose worker died is
planned again under its old number.
"""

from __future__ import annotations

import json
import os
import socket
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from sb3_stable_ppo.errors import UsageError

HEARTBEAT, GRACE, MAX_RETRIES = 60, 180, 3
"""Seconds between two signs of life of a trial in a database, and after which it is dead; how often it is retried."""
PLANNED, WORKER, SURPLUS = "planned", "worker", "surplus"
PRUNERS = ("median", "halving", "none")


def open_storage(where: str) -> BaseStorage:
    """
    :param where: a database's URL, or a file: a journal, for the processes of one machine or one NFS
    :raises UsageError: if it cannot be reached; no password is told
    """
    with told_without_password(where):
        if "://" not in where:
            Path(where).parent.mkdir(parents=True, exist_ok=True)
            return JournalStorage(JournalFileBackend(where))
        retry = RetryHeartbeatStaleTrialCallback(max_retry=MAX_RETRIES)
        return RDBStorage(where, heartbeat_interval=HEARTBEAT, grace_period=GRACE, heartbeat_stale_trial_callback=retry)


@contextmanager
def told_without_password(where: str) -> Iterator[None]:
    """Within, what goes wrong with a storage becomes one sentence."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        text = " ".join(str(error).split("\n")[0].split())
        if "://" in where:
            from sqlalchemy.engine import make_url

            try:
                url = make_url(where)
            except Exception:
                raise UsageError("--storage: this is no URL of a database, nor the name of a file.") from None
            text = text.replace(str(url.password or "\0"), "***")
            where = url.render_as_string(hide_password=True)
        raise UsageError(f"--storage {where}: {type(error).__name__}: {text}") from None


def open_study(
    storage: BaseStorage, name: str, plan: Mapping[str, Any], pruner: str, seed: int | None, directions: int
) -> Study:
    """
    Make a study, or go on with one of the same plan.

    :param storage: where
    :param name: of the study
    :param plan: what it is of (algorithm, env, steps, versions, …), in JSON's types; kept with it
    :param pruner: one of ``PRUNERS``
    :param seed: of the sampler; each worker's another
    :param directions: how many values a trial has, all to be maximised
    :raises UsageError: if there is one of that name and another plan
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # group: parameters that only some trials have
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, n_startup_trials=10)
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        load_if_exists=True,
        directions=[StudyDirection.MAXIMIZE] * directions,
        sampler=sampler,
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
        raise UsageError(
            f"The study {name!r} is of another {key}: {_short((known or {}).get(key))}, here {_short(plan[key])}. "
            "Choose another --study, or the same settings."
        )
    return study


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 100 else f"{text[:100]}…"


def _pruner(name: str) -> optuna.pruners.BasePruner:
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1)
    return optuna.pruners.SuccessiveHalvingPruner() if name == "halving" else optuna.pruners.NopPruner()


def plan_trials(study: Study, total: int) -> int:
    """
    Plan as many trials as are missing to ``total``, and those that failed once more.

    :param study: the study
    :param total: trials in all
    :return: how many were planned
    """
    known = outcomes(study)
    missing = [n for n in range(total) if n not in known or known[n].state is TrialState.FAIL]
    for number in missing:
        study.enqueue_trial({}, user_attrs={PLANNED: number})
    return len(missing)


def is_waiting(study: Study) -> bool:
    """Whether a trial is left to be done."""
    return bool(study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))


def claim(trial: Trial) -> None:
    """
    Write this process' name on a trial.

    :param trial: that has just begun
    :raises optuna.TrialPruned: if it was not planned: another worker took the last one in between
    """
    if PLANNED not in trial.user_attrs:
        trial.set_user_attr(SURPLUS, True)
        raise optuna.TrialPruned("no trial was left")
    trial.set_user_attr(WORKER, worker_name(os.getpid()))


def worker_name(pid: int) -> str:
    """
    :param pid: of a process on this machine
    """
    return f"{socket.gethostname()}:{pid}"


def plan_again(study: Study, is_dead: Any) -> int:
    """
    Fail the trials whose workers are dead, and plan them again, three times at most.

    :param study: the study
    :param is_dead: of a worker's name, whether it is
    :return: how many were planned again
    """
    count = 0
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if is_dead(trial.user_attrs.get(WORKER)):
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
            retries = trial.user_attrs.get("retries", 0)
            if retries < MAX_RETRIES and PLANNED in trial.user_attrs:
                attrs = {PLANNED: trial.user_attrs[PLANNED], "retries": retries + 1}
                study.enqueue_trial(trial.params, user_attrs=attrs)
                count += 1
    return count


def outcomes(study: Study) -> dict[int, FrozenTrial]:
    """
    Of each planned trial the last try, by its planned number.

    :param study: the study
    """
    trials = [trial for trial in study.get_trials(deepcopy=False) if PLANNED in trial.user_attrs]
    return {trial.user_attrs[PLANNED]: trial for trial in trials}


def best_trials(study: Study) -> list[FrozenTrial]:
    """
    The best of one objective, or the Pareto front of two, the best return first.

    :param study: the study
    :raises UsageError: if no trial is complete
    """
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        raise UsageError(f"The study {study.study_name!r} has no completed trial (yet).")
    return sorted(study.best_trials, key=lambda trial: trial.values, reverse=True)
