"""Every test on one thread: pytest-xdist runs several at a time, and those that take turns on two cores crawl."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Generator

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, and for processes that tests start

import ale_py
import gymnasium as gym
import pytest
import torch as th

from helpers.servers import cluster as cluster, port as port, where as where
from sb3_stable_ppo.common import signals

gym.register_envs(ale_py)
# As preload_forkserver() does, what commands import, and what torch imports for the first optimizer of a process, which
# takes it 2 seconds: some hundred processes would do it anew.
multiprocessing.set_forkserver_preload(
    ["sb3_stable_ppo.envs.worker_imports", "sb3_stable_ppo.zoo.manager", "torch._dynamo"]
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, so that the processes end at about the same time."""

    def seconds(item: pytest.Item) -> float:
        slow = item.get_closest_marker("slow")
        return 0.0 if slow is None else slow.kwargs.get("seconds", 10.0)

    items.sort(key=lambda item: -seconds(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    """EnvPool has no wheel for Python 3.10: there, a test that needs it is skipped."""
    try:
        yield
    except ImportError as error:
        if sys.version_info < (3, 11) and "sb3-stable-ppo[envpool]" in str(error):
            pytest.skip(str(error))
        raise


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    th.set_num_threads(1)


@pytest.fixture(autouse=True)
def _distributions_are_validated() -> None:
    """torch.compile switches torch's validation off for the whole process (``torch._dynamo.eval_frame``)."""
    th.distributions.Distribution.set_default_validate_args(True)


@pytest.fixture(autouse=True)
def _no_signal_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was asked to stop ends; one that runs tests goes on."""
    for fact in ("asked_to_stop", "pending"):
        monkeypatch.setattr(signals._State, fact, False)
