"""
Where Optuna keeps a study: a journal file for the processes of one machine, a database for those of many.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna.exceptions import ExperimentalWarning, OptunaError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial

from sb3_stable_ppo.common.errors import UsageError

HEARTBEAT = 60
"""Seconds between two signs of life of a trial in a database."""
MISSED = 3
"""A trial that has missed so many is dead."""
MAX_RETRIES = 3
"""How often a trial is tried again whose worker died."""
FIRST, RETRIES = "first_try", "retries"
"""What a trial that is tried again has as user attributes: the number of the first try, and how many there were."""
POOL: dict[str, Any] = {"pool_size": 1, "max_overflow": 1, "pool_pre_ping": True}
"""
A worker keeps one connection open, and a second while it gives a sign of life, where SQLAlchemy's default keeps both:
a server has few (PostgreSQL 100). Each is tried before it is used, as the server may have been started anew.
"""


def is_file(where: str) -> bool:
    """
    :param where: of a storage
    :return: whether it is a journal file, not a database's URL
    """
    return "://" not in where


def open_storage(where: str, heartbeat: int = HEARTBEAT) -> BaseStorage:
    """
    :param where: a database's URL, or a file: a journal, for the processes of one machine or one NFS
    :param heartbeat: seconds between two signs of life, in a database
    :raises UsageError: if it cannot be reached; no password is told
    """
    with redacted_errors(where):
        if is_file(where):
            Path(where).parent.mkdir(parents=True, exist_ok=True)
            return JournalStorage(JournalFileBackend(where))
        return _database(where, heartbeat)


def _database(where: str, heartbeat: int) -> RDBStorage:
    """Of processes that come to an empty database at the same time, one makes the tables; the others fail, once."""
    from sqlalchemy.exc import IntegrityError, ProgrammingError

    patience = [2.0, 1.0, 0.5]
    while True:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)  # heartbeats
                return RDBStorage(
                    where,
                    engine_kwargs=dict(POOL),
                    heartbeat_interval=heartbeat,
                    grace_period=MISSED * heartbeat,
                    heartbeat_stale_trial_callback=requeue,
                )
        except (IntegrityError, ProgrammingError):
            if not patience:
                raise
            time.sleep(patience.pop())


def requeue(study: Study, trial: FrozenTrial, counts: bool = True) -> None:
    """
    Plan a trial again whose worker died, with the parameters it had drawn. What else it had noted, its worker's name
    above all, is the failed one's.

    :param study: the study
    :param trial: a copy of the trial, which has failed
    :param counts: whether it counts as one of the few retries; an interruption does not
    """
    retries = trial.user_attrs.get(RETRIES, 0) + counts
    if retries <= MAX_RETRIES:
        trial.user_attrs = {FIRST: trial.user_attrs.get(FIRST, trial.number), RETRIES: retries}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            RetryHeartbeatStaleTrialCallback()(study, trial)


def without_password(where: str) -> tuple[str, list[str]]:
    """
    :param where: of a storage
    :return: what may be shown of it, and what may not
    :raises UsageError: if it is neither a URL nor a file's name
    """
    if is_file(where):
        return where, []
    from sqlalchemy.engine import make_url

    try:
        url = make_url(where)
    except Exception:
        raise UsageError("--storage: this is no URL of a database, nor the name of a file.") from None
    hidden = {name: "***" if "password" in name.lower() else value for name, value in url.query.items()}
    secrets = [url.password, *(value for name, value in url.query.items() if hidden[name] == "***")]
    shown = url.set(query=hidden).render_as_string(hide_password=True).replace("%2A%2A%2A", "***")
    return shown, [str(secret) for secret in secrets if secret]


@contextmanager
def redacted_errors(where: str) -> Iterator[None]:
    """Within, what goes wrong with a storage becomes one sentence; what is no storage's doing goes on as it is."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        from sqlalchemy.exc import SQLAlchemyError

        chain: list[BaseException] = [error]  # Optuna's own words are about what a lost connection leads to
        while (inner := chain[-1].__cause__ or chain[-1].__context__) is not None:
            chain.append(inner)
        expected = (SQLAlchemyError, OptunaError, OSError, ImportError, ValueError, TypeError)
        if not any(isinstance(one, expected) for one in chain):
            raise
        cause = chain[-1]
        text = " ".join(str(cause).split("\n")[0].split())
        if "No module named 'psycopg" in text:
            text += ": pip install 'sb3-stable-ppo[postgres]', and begin the URL with postgresql+psycopg://"
        where, secrets = without_password(where)
        for secret in secrets:
            text = text.replace(secret, "***")
        raise UsageError(f"--storage {where}: {type(cause).__name__}: {text}") from None
