"""
Where Optuna keeps a study: a journal file for the processes of one machine, a database for those of several machines.

A storage made here turns its own input and output errors (a lost connection, a full disk under the journal) into a
:class:`UsageError` of one sentence without a password. Errors of anything else pass as they are.
"""

from __future__ import annotations

import functools
import json
import os
import time
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from json import JSONDecodeError
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.study import Study
from optuna.trial import FrozenTrial

from sb3_stable_ppo.common.errors import UsageError

Storage = TypeVar("Storage", bound=type[BaseStorage])

HEARTBEAT = 60
"""Seconds between two heartbeats of a trial in a database."""
MISSED = 3
"""A trial that has missed so many heartbeats is dead."""
MAX_RETRIES = 3
"""How often a trial whose worker died is tried again."""
FIRST, RETRIES = "first_try", "retries"
"""User attributes of a trial that is tried again: the number of the first try, and how many retries there were."""
TRIES, RUNS = "earlier_tries", "finished_runs"
"""
What a try takes over from those before, also user attributes: their numbers, and the results of the runs that they have
finished.
"""
POOL: dict[str, Any] = {"pool_size": 1, "max_overflow": 1, "pool_pre_ping": True}
"""
A worker keeps one connection open, and opens a second for the length of each heartbeat. SQLAlchemy's default keeps both
open, and a server has few (PostgreSQL: 100). Each connection is checked before it is used, because the server may have
been restarted.
"""
NO_JOURNAL = "it is no journal file; if it is an SQLite database, give its URL"
IO_ERRORS = (OSError, JSONDecodeError, UnicodeDecodeError, StorageInternalError)
"""What goes wrong between a storage and its file or server, beside SQLAlchemy's errors. Optuna needs the others itself,
such as KeyError for a study that does not exist."""


def is_file(where: str) -> bool:
    """
    :param where: of a storage
    :return: whether it is a journal file, not a database's URL
    """
    return "://" not in where


def is_missing(where: str) -> bool:
    """
    :param where: of a storage
    :return: whether it would be in a file, and there is none
    """
    if is_file(where):
        return not Path(where).is_file()
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    with suppress(ArgumentError):  # which whoever opens it tells without the password
        url = make_url(where)
        name = url.database or ":memory:"
        in_file = url.get_backend_name() == "sqlite" and not name.startswith((":memory:", "file:"))
        return in_file and not Path(name).is_file()
    return False


def open_storage(where: str, heartbeat: int = HEARTBEAT) -> BaseStorage:
    """
    Open a storage, and make it if it does not exist.

    :param where: a database's URL, or a file: a journal, for the processes of one machine or one NFS
    :param heartbeat: seconds between two heartbeats, in a database
    :return: the storage; its methods raise UsageError too if the file or the database cannot be used any more
    :raises UsageError: if it cannot be opened; the message shows no password
    """
    with redacted_errors(where, Exception):
        if is_file(where):
            Path(where).parent.mkdir(parents=True, exist_ok=True)
            if _is_something_else(Path(where)):
                raise UsageError(f"storage (--storage) {where}: {NO_JOURNAL}, sqlite:///{where}.")
            lock = JournalFileSymlinkLock(where)
            _cut_torn_end(Path(where), lock)
            storage: BaseStorage = _Journal(JournalFileBackend(where, lock))
        else:
            storage = _database(where, heartbeat)
    storage.where = where  # type: ignore[attr-defined]  # which its methods need for their errors
    return storage


def _cut_torn_end(journal: Path, lock: JournalFileSymlinkLock) -> None:
    """
    Remove half a line, which a full disk or a power cut has left at a journal's end. Optuna passes over it, until the
    next line is written right behind it; then neither can be read.
    """
    if not journal.is_file() or _ends_whole(journal) or not _is_journal(journal) or not os.access(journal, os.W_OK):
        return
    lock.acquire()  # so that nobody is writing
    try:
        if not _ends_whole(journal):
            content = journal.read_bytes()
            whole = content.rfind(b"\n") + 1
            if _is_json(content[whole:]):  # its line break alone is missing
                with journal.open("ab") as file:
                    file.write(b"\n")
            else:
                os.truncate(journal, whole)
    finally:
        lock.release()


def _is_journal(path: Path) -> bool:
    """By its first line; whatever else a user may name by mistake stays as it is."""
    with path.open("rb") as file:
        line = file.readline()
    return _is_json(line) and b"op_code" in line


def _is_something_else(path: Path) -> bool:
    """Whether it begins as no journal does, not even half of one."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(1) not in (b"", b"{")


def _is_json(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _ends_whole(journal: Path) -> bool:
    with journal.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        return file.read(1) in (b"", b"\n")


def _redacting(cls: Storage) -> Storage:
    """Class decorator: the methods inherited from one of Optuna's storages raise what :func:`redacted_errors` makes."""

    def redacting(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not hasattr(self, "where"):  # it is being opened
                return method(self, *args, **kwargs)
            with redacted_errors(self.where):
                return method(self, *args, **kwargs)

        return call

    for name, method in vars(cls.__base__).items():
        if isinstance(method, types.FunctionType) and not name.startswith("__"):
            setattr(cls, name, redacting(method))
    return cls


@_redacting
class _Journal(JournalStorage):
    """A journal file."""


@_redacting
class _Database(RDBStorage):
    """A database."""


def _database(where: str, heartbeat: int) -> RDBStorage:
    """
    Connect to a database. Of several processes that find it empty at the same time, one makes the tables; the others
    fail at that, and try again.
    """
    from sqlalchemy.exc import IntegrityError, ProgrammingError

    patience = [2.0, 1.0, 0.5]
    while True:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)  # heartbeats
                return _Database(
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
    Enqueue a trial whose worker died once more, with the parameters it had sampled and the results of the runs that it
    had finished. Its other user attributes, such as its worker's name, stay with the failed trial.

    :param study: the study
    :param trial: a copy of the trial, which has failed
    :param counts: whether this is one of the ``MAX_RETRIES``; after an interruption it is not
    """
    retries = trial.user_attrs.get(RETRIES, 0) + counts
    if retries <= MAX_RETRIES:
        known = trial.user_attrs
        tries = [*known.get(TRIES, ()), trial.number]
        trial.user_attrs = {FIRST: known.get(FIRST, trial.number), RETRIES: retries, TRIES: tries}
        trial.user_attrs |= {RUNS: known[RUNS]} if RUNS in known else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            RetryHeartbeatStaleTrialCallback()(study, trial)


def without_password(where: str) -> tuple[str, list[str]]:
    """
    Hide the password of a storage's URL.

    :param where: of a storage
    :return: what may be shown of it; and the passwords, as they are and as a URL has them
    :raises UsageError: if it is neither a URL nor a file's name
    """
    if is_file(where):
        return where, []
    from sqlalchemy.engine import make_url

    try:
        url = make_url(where)
    except Exception:
        raise UsageError("storage (--storage): give the URL of a database, or the name of a file.") from None
    hidden = {name: "***" if "password" in name.lower() else value for name, value in url.query.items()}
    secrets = [url.password, *(value for name, value in url.query.items() if hidden[name] == "***")]
    shown = url.set(query=hidden).render_as_string(hide_password=True).replace("%2A%2A%2A", "***")
    plain = [str(secret) for secret in secrets if secret]
    return shown, [*plain, *(quote(secret, safe="") for secret in plain)]


@contextmanager
def redacted_errors(where: str, *errors: type[Exception]) -> Iterator[None]:
    """
    Turn errors of a storage that are raised within the block into one sentence without the password.

    :param where: of the storage
    :param errors: which; by default ``IO_ERRORS`` and SQLAlchemy's
    :raises UsageError: in their place
    """
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        from sqlalchemy.exc import SQLAlchemyError

        if not isinstance(error, errors or (SQLAlchemyError, *IO_ERRORS)):
            raise
        cause: BaseException = error  # Optuna's own error says only what a lost connection leads to
        while (inner := cause.__cause__ or cause.__context__) is not None:
            cause = inner
        text = " ".join(str(cause).split("\n")[0].split())
        if "No module named 'psycopg" in text:
            text += ": pip install 'sb3-stable-ppo[postgres]', and begin the URL with postgresql+psycopg://"
        if isinstance(cause, UnicodeDecodeError):
            text = f"{NO_JOURNAL}, sqlite:///{where}"
        where, secrets = without_password(where)
        for secret in secrets:
            text = text.replace(secret, "***")
        raise UsageError(f"storage (--storage) {where}: {type(cause).__name__}: {text}") from None
