"""Locks by which processes tell each other that they are at work."""

import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest

from sb3_stable_ppo.common import locks
from sb3_stable_ppo.common.locks import ProcessLock

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")


@pytest.fixture(params=["file", "folder"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    place = tmp_path / "place"
    place.touch() if request.param == "file" else place.mkdir()
    return place


def test_only_one_holds_it_until_it_is_given_back(path: Path) -> None:
    lock = ProcessLock(path)
    assert lock.is_held
    with pytest.raises(BlockingIOError):
        ProcessLock(path)
    lock.release()
    lock.release()
    assert not lock.is_held
    assert ProcessLock(path).is_held


def test_the_lock_of_a_process_that_was_killed_is_free(path: Path) -> None:
    script = (
        "import sys, pathlib; from sb3_stable_ppo.common.locks import ProcessLock; "
        "lock = ProcessLock(pathlib.Path(sys.argv[1])); print(lock.is_held, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        with pytest.raises(BlockingIOError):
            ProcessLock(path)
        process.kill()
        process.wait()
    assert ProcessLock(path).is_held


def test_a_forked_process_that_outlives_its_parent_does_not_hold_it(path: Path) -> None:
    lock = ProcessLock(path)
    process = multiprocessing.get_context("fork")
    begun, may_end = process.Event(), process.Event()
    child = process.Process(target=lambda: (begun.set(), may_end.wait(60)), daemon=True)
    child.start()
    assert begun.wait(60)
    lock.release()
    try:
        assert ProcessLock(path).is_held, "the child, which still runs, does not hold it"
    finally:
        may_end.set()
        child.join()


@pytest.mark.parametrize("refused", ["open", "flock"])
def test_where_the_file_system_has_no_locks_nobody_holds_it(
    path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    import fcntl

    def fails(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(locks.os if refused == "open" else fcntl, refused, fails)
    assert not ProcessLock(path).is_held
