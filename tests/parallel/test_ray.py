"""Jobs on a real Ray cluster of two nodes."""

from pathlib import Path
from typing import Any

import pytest
import ray

from helpers.processes import KILLED_AT_FIRST, script
from sb3_stable_ppo.parallel.local import Job
from sb3_stable_ppo.parallel.ray import run_on_ray


@pytest.mark.xdist_group("ray")
@pytest.mark.slow
def test_a_job_whose_process_dies_is_done_again_by_ray(cluster: Any, tmp_path: Path) -> None:
    jobs = [Job("one", (script(tmp_path, KILLED_AT_FIRST), "2")), Job("two", ("-m", "sb3_stable_ppo", "--version"))]
    assert run_on_ray(jobs, 2, tmp_path / "logs", {}, address=cluster.address) == {"one": 0, "two": 0}
    assert len(list(tmp_path.glob("try_*"))) == 3
    assert (tmp_path / "logs" / "one.log").read_text() == "done at last\n"
    assert (tmp_path / "logs" / "two.log").read_text().startswith("sb3-stable-ppo ")


@pytest.mark.xdist_group("ray")
@pytest.mark.slow
def test_a_caller_who_is_connected_already_stays_so(cluster: Any, tmp_path: Path) -> None:
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        jobs = [Job("one", ("-m", "sb3_stable_ppo", "--version"))]
        assert run_on_ray(jobs, 1, tmp_path / "logs", {}, address=cluster.address) == {"one": 0}
        assert ray.is_initialized()
    finally:
        ray.shutdown()


@pytest.mark.xdist_group("ray")
@pytest.mark.slow
def test_a_job_that_fails_on_ray_leaves_its_traceback_and_is_not_done_again(cluster: Any, tmp_path: Path) -> None:
    code = 'print("before", flush=True)\nraise RuntimeError("no such luck")'
    statuses = run_on_ray([Job("one", (script(tmp_path, code),))], 1, tmp_path / "logs", {}, address=cluster.address)
    assert statuses == {"one": 1}
    log = (tmp_path / "logs" / "one.log").read_text()
    assert log.startswith("before\nTraceback")
    assert log.endswith("RuntimeError: no such luck\n")
    assert log.count("before") == 1
