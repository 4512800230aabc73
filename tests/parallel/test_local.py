"""Jobs in processes of this machine."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.processes import KILLED_AT_FIRST, LIMIT, script, until
from helpers.tuning import with_ctrl_c
from sb3_stable_ppo.parallel.local import Job, Statuses, run_here


@pytest.mark.parametrize(("deaths", "status", "tries"), [(0, 0, 1), (3, 0, 4), (9, -9, 4)])
def test_a_killed_job_is_done_again_three_times_at_most(tmp_path: Path, deaths: int, status: int, tries: int) -> None:
    job = Job("one", (script(tmp_path, KILLED_AT_FIRST), str(deaths)))
    assert run_here([job], 1, tmp_path / "logs", {}) == {"one": status}
    assert len(list(tmp_path.glob("try_*"))) == tries
    assert (tmp_path / "logs" / "one.log").read_text() == ("done at last\n" if status == 0 else "")


def test_no_more_jobs_run_at_once_than_there_are_workers_with_one_thread_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    code = """
(here / f"now_{sys.argv[1]}").touch()
time.sleep(0.3)
print(len(list(here.glob("now_*"))), os.environ["OMP_NUM_THREADS"], os.environ["WORD"])
(here / f"now_{sys.argv[1]}").unlink()
"""
    path = script(tmp_path, code)
    jobs = [Job(f"job_{number}", (path, str(number))) for number in range(4)]
    seen: list[int] = []
    statuses = run_here(jobs, 2, tmp_path / "logs", {"WORD": "hello"}, lambda known: seen.append(len(known)))
    assert statuses == dict.fromkeys((job.name for job in jobs), 0)
    for job in jobs:
        at_once, threads, word = (tmp_path / "logs" / f"{job.name}.log").read_text().split()
        assert int(at_once) <= 2
        assert (threads, word) == ("1", "hello")
    assert seen == sorted(seen)
    assert seen[-1] == 4


def test_after_a_mistake_in_the_call_no_other_job_is_begun(tmp_path: Path) -> None:
    path = script(tmp_path, "sys.exit(int(sys.argv[1]))")
    jobs = [Job(f"job_{status}", (path, str(status))) for status in (1, 2, 0)]
    assert run_here(jobs, 1, tmp_path / "logs", {}) == {"job_1": 1, "job_2": 2}


def test_an_interruption_ends_the_jobs_politely(tmp_path: Path) -> None:
    code = """
import signal
signal.signal(signal.SIGTERM, lambda *_: sys.exit((here / "saved").touch()))
(here / "begun").touch()
time.sleep(60)
"""

    def look(_: Statuses) -> None:
        if (tmp_path / "begun").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_here([Job("one", (script(tmp_path, code),))], 1, tmp_path / "logs", {}, look)
    assert (tmp_path / "saved").exists()


def test_a_module_is_found_where_the_caller_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("print('the wrong one')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    assert run_here([Job("one", ("-m", "sb3_stable_ppo", "--version"))], 1, tmp_path / "logs", {}) == {"one": 0}
    assert "the wrong one" not in (tmp_path / "logs" / "one.log").read_text()


def test_an_impatient_second_ctrl_c_kills(tmp_path: Path) -> None:
    code = """
import signal
signal.signal(signal.SIGTERM, lambda *_: (here / "asked").touch())
(here / "begun").write_text(str(os.getpid()))
while True:
    time.sleep(0.1)
"""
    program = f"""
import sys
from pathlib import Path
from sb3_stable_ppo.parallel.local import Job, run_here
run_here([Job("one", ({script(tmp_path, code)!r},))], 1, Path({str(tmp_path)!r}), {{}})
"""
    command = [sys.executable, "-c", program]
    caller = subprocess.Popen(command, preexec_fn=with_ctrl_c, stderr=subprocess.DEVNULL)
    pid = int(until(lambda: (tmp_path / "begun").exists() and (tmp_path / "begun").read_text()))
    caller.send_signal(signal.SIGINT)
    until(lambda: (tmp_path / "asked").exists())
    caller.send_signal(signal.SIGINT)
    assert caller.wait(LIMIT) != 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
