"""``tune`` on a database and on a Ray cluster, with workers and machines that die."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from helpers import postgres_server
from helpers.processes import LIMIT, begin, until
from helpers.servers import needs_postgres
from helpers.tuning import (
    PLAN,
    flags,
    study_in,
    totals,
    worker_of_a_trial,
)
from sb3_stable_ppo.cli.app import main
from sb3_stable_ppo.studies.storage import open_storage
from sb3_stable_ppo.studies.study import (
    open_study,
    running,
)


@needs_postgres
@pytest.mark.xdist_group("postgres")
@pytest.mark.slow
def test_two_launchers_on_one_database_do_every_trial_once_though_a_worker_is_killed(
    where: str, tmp_path: Path
) -> None:
    call = [
        *flags(tmp_path, "helpers.callbacks.Slow", steps=128),
        "--gym-packages",
        "helpers.callbacks",
        "--trials",
        "5",
    ]
    call += ["--pruner", "none", "--storage", where, "--workers", "1"]
    launchers = [begin(*call) for _ in range(2)]

    def commands_with_a_worker() -> str:
        listed = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
        return listed if "sb3_stable_ppo.tuning.worker" in listed else ""

    commands = until(commands_with_a_worker)
    secret = postgres_server.PASSWORD.replace("/", "%2F")
    assert not [line for line in commands.splitlines() if secret in line and "tuning.worker" in line]
    study = until(lambda: study_in(where))
    os.kill(until(lambda: worker_of_a_trial(study)), signal.SIGKILL)
    assert [launcher.wait(LIMIT) for launcher in launchers] == [0, 0]
    assert totals(study) == [1] * 5
    assert [trial.state.name for trial in study.trials].count("FAIL") >= 1
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path
            assert postgres_server.PASSWORD.encode() not in path.read_bytes(), path


@needs_postgres
@pytest.mark.xdist_group("postgres")
def test_a_wrong_password_is_one_sentence_and_the_study_is_untouched(
    where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = open_study(open_storage(where), "tune_CartPole-v1", PLAN, "none", 0, 1)
    wrong = where.replace("s3cret%2Fword", "w%2Frong")
    call = ["tune", "--env", "CartPole-v1", "-n", "64", "-f", str(tmp_path / "logs"), "--storage"]
    assert main([*call, wrong]) == 2
    shown = capsys.readouterr().err
    assert 'password authentication failed for user "tuner"' in shown
    assert "w/rong" not in shown
    assert "w%2Frong" not in shown
    assert main([*call, where]) == 2  # another plan than PLAN
    assert "The study 'tune_CartPole-v1' is of another" in capsys.readouterr().err
    assert study.trials == []
    assert not (tmp_path / "logs").exists()


@needs_postgres
@pytest.mark.xdist_group("ray")
@pytest.mark.slow
def test_no_trial_is_lost_or_counted_twice_when_a_worker_and_a_node_of_the_cluster_die(
    cluster: Any, where: str, tmp_path: Path
) -> None:
    call = [
        *flags(tmp_path, "helpers.callbacks.Slow", steps=128),
        "--gym-packages",
        "helpers.callbacks",
        "--trials",
        "5",
    ]
    call += ["--pruner", "none", "--storage", where, "--workers", "3", "--ray", cluster.address, "--heartbeat", "2"]
    doomed = cluster.add_node(num_cpus=1)  # a third: each has one of the workers
    launcher = begin(*call)
    study = until(lambda: study_in(where))
    until(lambda: len(running(study)) == 3)
    os.kill(until(lambda: worker_of_a_trial(study)), signal.SIGKILL)
    until(lambda: any(trial.state.is_finished() for trial in study.get_trials(deepcopy=False)))
    cluster.remove_node(doomed, allow_graceful=False)
    assert launcher.wait(LIMIT) == 0
    assert totals(study) == [1] * 5


def test_ray_needs_a_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["tune", "--env", "CartPole-v1", "-n", "64", "-f", str(tmp_path / "logs"), "--ray", "auto"]
    assert main(call) == 2
    assert "ray (--ray) needs storage (--storage) with the URL of a database" in capsys.readouterr().err
