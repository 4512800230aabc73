"""Storages: opened by several processes at once, and errors that show no password."""

import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError

from helpers import postgres_server
from helpers.processes import LIMIT
from helpers.servers import needs_postgres
from helpers.tuning import PLAN, study_of
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.studies.storage import is_missing, open_storage
from sb3_stable_ppo.studies.study import (
    open_study,
)

pytestmark = pytest.mark.slow(seconds=1)


def test_a_storage_that_cannot_be_reached_is_one_sentence_without_the_password() -> None:
    wheres = ("postgresql+psycopg://me:se%40cret@127.0.0.1:1/db", "nosuch://me:se%40cret@host/db")
    for where in (*wheres, "postgresql+psycopg://me@127.0.0.1:1/db?password=se%40cret"):
        with pytest.raises(UsageError) as caught:
            open_storage(where)
        text = str(caught.value)
        assert text.startswith("storage (--storage) ")
        assert "***" in text
        assert "cret" not in text
        assert "\n" not in text


@needs_postgres
@pytest.mark.xdist_group("postgres")
def test_processes_that_come_to_an_empty_database_at_once_all_find_it_made(where: str) -> None:
    code = (
        "import sys; from sb3_stable_ppo.studies.storage import open_storage; open_storage(sys.argv[1]); print('ready')"
    )
    asking = [
        subprocess.Popen([sys.executable, "-c", code, where], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    assert [process.communicate(timeout=LIMIT)[0] for process in asking] == ["ready\n"] * 4


@needs_postgres
@pytest.mark.xdist_group("postgres")
def test_a_password_may_be_in_pgpass_alone(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = tmp_path / "pgpass"
    secrets.write_text(f"127.0.0.1:*:*:{postgres_server.USER}:{postgres_server.PASSWORD}\n")
    secrets.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(secrets))
    name, _, rest = where.partition(":s3cret%2Fword")
    study = open_study(open_storage(name + rest), "s", PLAN, "none", 0, 1)
    assert study.trials == []


def test_a_full_disk_under_a_journal_is_told_of_the_storage_and_no_other_error_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    study = study_of(tmp_path)
    trial = study.ask()
    study.tell(trial, 1.0)
    with pytest.raises(ValueError, match="Cannot tell"):
        study.tell(trial, 2.0)
    with pytest.raises(KeyError):
        optuna.load_study(study_name="other", storage=open_storage(str(tmp_path / "journal.log")))
    monkeypatch.setattr(JournalFileBackend, "append_logs", full)
    with pytest.raises(UsageError, match=r"storage \(--storage\) .*journal\.log: OSError: .*No space left on device"):
        study.ask()


def test_half_a_line_at_a_journals_end_costs_that_line_alone(tmp_path: Path) -> None:
    journal = tmp_path / "journal.log"
    study_of(tmp_path).ask()
    with journal.open("a") as file:
        file.write('{"op_code": 4, "worker_id": "ab')
    for count in (2, 3):
        study = study_of(tmp_path)
        study.ask()
        assert len(study_of(tmp_path).trials) == count
    journal.write_text(journal.read_text().removesuffix("\n"))
    assert len(study_of(tmp_path).trials) == 3, "a line that lacks its line break alone is kept"


def test_a_file_that_is_no_journal_is_told_of_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    open_study(open_storage(f"sqlite:///{path}"), "s", PLAN, "none", 0, 1)
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"no journal file; if it is an SQLite database, give its URL, sqlite:///"):
        open_study(open_storage(str(path)), "s", PLAN, "none", 0, 1)
    assert path.read_bytes() == before
    for content in ("hello", "def main():\n    pass\n"):
        path.write_text(content)
        with pytest.raises(UsageError, match="it is no journal file"):
            open_study(open_storage(str(path)), "s", PLAN, "none", 0, 1)
        assert path.read_text() == content


def test_a_storage_in_a_file_is_missing_where_the_file_is(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    assert is_missing(str(path))
    assert is_missing(f"sqlite:///{path}")
    assert not is_missing("postgresql+psycopg://me@127.0.0.1:1/db")
    assert not is_missing("sqlite://")
    assert not is_missing("sqlite:///file:other.db?uri=true")
    path.touch()
    assert not is_missing(str(path))
    assert not is_missing(f"sqlite:///{path}")


@needs_postgres
@pytest.mark.xdist_group("postgres")
def test_a_database_that_goes_away_is_one_sentence_without_the_password(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = open_study(open_storage(where), "s", PLAN, "none", 0, 1)

    def lost(*_: object, **__: object) -> None:
        raise OperationalError("select", {}, Exception(f"the server at {where} closed the connection"))

    monkeypatch.setattr(Engine, "connect", lost)
    with pytest.raises(UsageError, match=r"storage \(--storage\) postgresql") as caught:
        study.trials  # noqa: B018  # a property that reads
    assert "s3cret" not in str(caught.value)
