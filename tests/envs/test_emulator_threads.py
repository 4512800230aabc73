"""The emulator's threads: which give way, and to which cores they are bound."""

import json
import os
from typing import Any

import pytest

from helpers.processes import run_python
from sb3_stable_ppo.envs.atari_vec_env import AtariVecEnv
from sb3_stable_ppo.fast import threads

pytestmark = pytest.mark.slow(seconds=1)

PONG = "PongNoFrameskip-v4"


POLICIES = """
import json, os
from sb3_stable_ppo.envs.atari_vec_env import AtariVecEnv

def policies():
    return {task: os.sched_getscheduler(int(task)) for task in os.listdir("/proc/self/task")}

try:
    for policy in (os.SCHED_BATCH, os.SCHED_OTHER):  # there and back
        os.sched_setscheduler(0, policy, os.sched_param(0))
except OSError:
    print("null")
    raise SystemExit
before = policies()
env = AtariVecEnv("PongNoFrameskip-v4", 2, num_threads=2)
after = policies()
print(json.dumps([before, after]))
env.close()
"""


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="Linux has SCHED_BATCH")
def test_the_emulators_threads_give_way_and_those_of_others_do_not() -> None:
    told = json.loads(run_python(POLICIES))  # a process whose threads no other test has touched
    if told is None:
        pytest.skip("this machine forbids a change of the scheduling policy")
    before, after = told
    assert [policy for task, policy in after.items() if task not in before] == [os.SCHED_BATCH] * 2
    assert all(after[task] == policy for task, policy in before.items() if task in after)


@pytest.mark.parametrize(
    ("count", "cores", "ours", "first"),
    [(2, 2, {0, 1}, 0), (1, 2, {0, 1}, -1), (2, 4, {0, 1}, -1), (4, 4, {0, 1, 2, 3}, 0), (8, 4, {0, 1, 2, 3}, -1)],
)
def test_threads_are_bound_to_cores_only_where_they_are_as_many(
    count: int, cores: int, ours: set[int], first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: ours, raising=False)
    assert threads.affinity_offset(count) == first


def test_a_sandbox_that_forbids_scheduling_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: Any) -> None:
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(threads.os, "sched_setscheduler", forbidden)
    AtariVecEnv(PONG, 1, seed=0).close()
