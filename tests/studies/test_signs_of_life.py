"""Workers on a journal that died where nobody can see their process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.tuning import study_of
from sb3_stable_ppo.common import locks
from sb3_stable_ppo.studies import signs_of_life, worker_names
from sb3_stable_ppo.studies.signs_of_life import SILENT_S, has_died, sign_of_life
from sb3_stable_ppo.studies.study import effective_trials, n_remaining, requeue_dead_trials, running

WORKER = """
import sys, time
from sb3_stable_ppo.studies import worker_names
worker_names.machine = lambda: "other-00000000"
from helpers.tuning import study_of
from sb3_stable_ppo.studies.signs_of_life import sign_of_life
from sb3_stable_ppo.studies.study import claim
from pathlib import Path
with sign_of_life(sys.argv[1]):
    claim(study_of(Path(sys.argv[1]).parent).ask(), 1)
    print(worker_names.own_name(), flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")
@pytest.mark.slow(seconds=5)
def test_a_trial_of_another_machine_is_planned_again_once_its_worker_was_killed(tmp_path: Path) -> None:
    study, journal = study_of(tmp_path), str(tmp_path / "journal.log")
    command = [sys.executable, "-c", WORKER, journal]
    worker = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    )
    assert worker.stdout is not None
    name = worker.stdout.readline().strip()
    assert not worker_names.is_gone(name), "nobody here can tell by its process"
    assert not has_died(journal, name)
    assert requeue_dead_trials(study) == 0
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    assert requeue_dead_trials(study) == 0, "where locks are one machine's alone, the worker of another may be alive"
    (sign,) = (tmp_path / "journal.log.workers").iterdir()
    touched = sign.stat().st_mtime - SILENT_S - 1
    os.utime(sign, (touched, touched))
    assert requeue_dead_trials(study) == 1
    assert n_remaining(study, 1) == 1
    assert not running(study)
    assert len(effective_trials(study)) == 1


def test_a_worker_that_ends_takes_its_sign_away_and_of_one_without_a_sign_nothing_is_known(tmp_path: Path) -> None:
    journal = str(tmp_path / "journal.log")
    with sign_of_life(journal):
        long_ago = time.time() - SILENT_S - 1
        os.utime(next((tmp_path / "journal.log.workers").iterdir()), (long_ago, long_ago))
        assert not has_died(journal, worker_names.own_name())
        assert len([*(tmp_path / "journal.log.workers").iterdir()]) == 1
    assert [*tmp_path.iterdir()] == []
    assert not has_died(journal, worker_names.own_name())


def test_a_worker_touches_its_sign_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signs_of_life, "TOUCHED_S", 0.01)
    with sign_of_life(str(tmp_path / "journal.log")):
        (sign,) = (tmp_path / "journal.log.workers").iterdir()
        os.utime(sign, (0, 0))
        deadline = time.monotonic() + 30
        while sign.stat().st_mtime == 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_where_the_file_system_has_no_locks_work_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(locks.os, "open", refused)
    with sign_of_life(str(tmp_path / "journal.log")):
        assert not has_died(str(tmp_path / "journal.log"), worker_names.own_name())
