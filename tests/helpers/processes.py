"""Other processes, and waiting for them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent.parent
ROOT = TESTS.parent

# Seconds that a test waits for another process. Only one that fails waits as long; a machine under load needs it.
LIMIT = 400


def run_python(code: str, *args: str, cwd: Path | None = None) -> str:
    """Run code in a fresh process; returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        cwd=cwd or ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def until(found: Callable[[], Any], seconds: float = LIMIT) -> Any:
    """Wait for something to be there."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        result = found()
        if result:
            return result
        time.sleep(0.2)
    raise AssertionError("it never came")


def begin(*args: str) -> subprocess.Popen[bytes]:
    """``sb3-stable-ppo``, as a terminal starts it."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-m", "sb3_stable_ppo", *args]
    return subprocess.Popen(command, env=environment, start_new_session=True)


def script(folder: Path, code: str) -> str:
    """Write a script that knows the folder it is in as ``here``."""
    path = folder / "job.py"
    path.write_text(f"import os, pathlib, sys, time\nhere = pathlib.Path({str(folder)!r})\n{code}\n")
    return str(path)


KILLED_AT_FIRST = """
count = len(list(here.glob("try_*")))
(here / f"try_{count}").touch()
if count < int(sys.argv[1]):
    os.kill(os.getpid(), 9)
print("done at last")
"""
"""Code of a job that is killed as often as its argument says, and then ends."""
