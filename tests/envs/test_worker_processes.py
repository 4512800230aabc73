"""The processes of a RestartingVecEnv: how they start, which signals they leave alone, and that none outlives it."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.dying_env import EXIT, GO_ON, HANG, ORPHAN, RAISE
from helpers.processes import TESTS, run_python
from helpers.restarting import kill, restarting_envs as restarting_envs
from sb3_stable_ppo.envs import worker_link

pytestmark = pytest.mark.filterwarnings("ignore:The worker of env:RuntimeWarning")


@pytest.mark.slow
@pytest.mark.parametrize("start_method", ["spawn", "forkserver", None])
def test_every_start_method_can_start_a_worker_anew(make: Any, start_method: str | None) -> None:
    env = make(start_method=start_method)
    env.reset()
    for index, action in enumerate((EXIT, RAISE)):
        dones = env.step(np.where(np.arange(2) == index, action, GO_ON))[2]
        assert dones.tolist() == [index == 0, index == 1]
    assert env.n_restarts == 2
    assert env.get_attr("steps") == [1, 0]


def test_closing_ends_dead_hanging_and_waiting_workers_without_a_restart(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sb3_stable_ppo.envs.restarting_vec_env.END_S", 0.3)
    env = make(4)
    env.reset()
    kill(env, 0)
    env.step_async(np.array([GO_ON, HANG, GO_ON, RAISE]))
    processes = env.processes
    env.close()
    env.close()
    assert [process.is_alive() for process in processes] == [False] * 4
    assert env.n_restarts == 0
    with pytest.raises(RuntimeError, match="This RestartingVecEnv was closed: make another one"):
        env.reset()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_signals_that_go_to_all_processes_of_a_run_are_the_main_process_matter(
    make: Any, number: signal.Signals
) -> None:
    env = make()
    env.reset()
    for process in env.processes:
        os.kill(process.pid, number)
    assert env.step(np.array([GO_ON, GO_ON]))[2].tolist() == [False, False]
    assert env.n_restarts == 0


LEFT_OPEN = """
import numpy as np
from helpers.dying_env import GO_ON, HANG, DyingEnv
from sb3_stable_ppo.envs import RestartingVecEnv
env = RestartingVecEnv([DyingEnv] * 2, start_method="fork")
env.reset()
env.step_async(np.array([GO_ON, HANG]))
print(*[process.pid for process in env.processes], flush=True)
"""


@pytest.mark.slow
def test_a_program_that_ends_without_closing_leaves_no_process_even_one_that_hangs() -> None:
    pids = run_python(LEFT_OPEN, cwd=TESTS).split()
    assert [Path("/proc", pid).exists() for pid in pids] == [False, False]


def test_a_process_that_the_env_has_started_does_not_hide_its_death(make: Any) -> None:
    """It has the worker's end of the pipe, as a fork has."""
    env = make(1)
    env.reset()
    started = time.monotonic()
    assert env.step(np.array([ORPHAN]))[3][0]["worker_restarted"] == "exit status 3"
    assert time.monotonic() - started < 10


def test_without_select_poll_a_hang_and_a_death_are_found_too(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows."""
    monkeypatch.delattr(worker_link.select, "poll")
    env = make(timeout=0.2)
    env.reset()
    infos = env.step(np.array([HANG, EXIT]))[3]
    assert [info["worker_restarted"] for info in infos] == ["no answer within 0.2 s", "exit status 3"]
