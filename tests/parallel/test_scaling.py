"""Many processes: seeds, dead ones, a real PostgreSQL, a real Ray cluster of two nodes, workers killed on each."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from helpers import postgres_server
from helpers.processes import ROOT, TESTS, until
from helpers.tuning import PLAN, config_with, flags, with_ctrl_c
from sb3_stable_ppo.cli.app import main
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.parallel.local import Job, Statuses, run_here
from sb3_stable_ppo.parallel.ray import run_on_ray
from sb3_stable_ppo.studies.storage import FIRST, RETRIES, open_storage
from sb3_stable_ppo.studies.study import WORKER, claim, effective_trials, open_study, requeue_dead_trials, running
from sb3_stable_ppo.zoo.seeds import move_dead_attempt, parse_seeds

optuna.logging.set_verbosity(optuna.logging.ERROR)
PACKAGES = ("--gym-packages", "helpers.callbacks")
needs_postgres = pytest.mark.skipif(
    postgres_server.binaries() is None and "CI_NEEDS_POSTGRES" not in os.environ, reason=postgres_server.MISSING
)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with postgres_server.server(max_connections=40) as found:
        yield found


@pytest.fixture
def where(port: int, request: pytest.FixtureRequest) -> str:
    """A database of the test's own on the server."""
    import psycopg

    name = f"d{abs(hash(request.node.name)) % 10**9}"
    with psycopg.connect(postgres_server.url(port).replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"create database {name}")
    return f"{postgres_server.url(port).rpartition('/')[0]}/{name}"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of a CPU each, which know the tests' callbacks."""
    from ray.cluster_utils import Cluster

    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(TESTS)
    try:
        found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        found.add_node(num_cpus=1)
        yield found
        found.shutdown()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def begin(*args: str) -> subprocess.Popen[bytes]:
    """``sb3-stable-ppo``, as a terminal starts it."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-m", "sb3_stable_ppo", *args]
    return subprocess.Popen(command, env=environment, start_new_session=True)


def worker_of_a_trial(study: optuna.Study) -> int | None:
    """The process of one that runs and has trained for a while."""
    for trial in running(study):
        if WORKER in trial.user_attrs and trial.params:
            return int(trial.user_attrs[WORKER].split(":")[1])
    return None


def totals(study: optuna.Study) -> list[int]:
    """Of each trial, however often it was tried, how often it was completed."""
    counted = dict.fromkeys(effective_trials(study), 0)
    for trial in study.trials:
        if trial.state is TrialState.COMPLETE:
            counted[trial.user_attrs.get(FIRST, trial.number)] += 1
    return list(counted.values())


def runs_in(folder: Path) -> list[tuple[int, str]]:
    """Seed and status of each run of a log folder."""
    facts = [json.loads(path.read_text()) for path in folder.glob("stable_ppo/*/run.json")]
    return sorted((fact["seed"], fact["status"]) for fact in facts)


# -- processes of this machine -----------------------------------------------------------------------------------------


def script(folder: Path, code: str) -> str:
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


def test_seeds_are_ranges_and_numbers() -> None:
    assert parse_seeds("0-3,7, 9") == [0, 1, 2, 3, 7, 9]
    assert parse_seeds("5") == [5]
    for wrong in ("", "a", "3-1", "1,,2", "-1", "1-2-3"):
        with pytest.raises(UsageError, match="such as 0-9"):
            parse_seeds(wrong)
    with pytest.raises(UsageError, match="a seed stands there twice"):
        parse_seeds("0-3,2")


def test_what_a_killed_run_left_is_moved_away_and_nothing_else(tmp_path: Path) -> None:
    for number, task in enumerate(["b/1", "b/2", None], start=1):
        folder = tmp_path / "stable_ppo" / f"CartPole-v1_{number}"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps({"task": task}))
    move_dead_attempt(tmp_path, "b/2")
    move_dead_attempt(tmp_path, "b/3")
    assert sorted(path.name for path in (tmp_path / "stable_ppo").iterdir()) == ["CartPole-v1_1", "CartPole-v1_3"]
    assert [path.name for path in (tmp_path / "died").iterdir()] == ["CartPole-v1_2_b_2_0"]


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["--seeds", "x"], "--seeds 'x': not seeds"),
        (["--seeds", "0-1", "--seed", "3"], "--seeds and --seed do not go together"),
        (["--seeds", "0-1", "-optimize"], "--seeds and -optimize do not go together"),
        (["--seeds", "0-1", "--workers", "0"], "--workers: with none, no seed is trained"),
        (["--workers", "2"], "--workers and --ray are for several runs"),
        (["--seeds", "0-1", "--worker-gpus", "1"], "--worker-gpus is for --ray"),
        (["--seeds", "0-1", "--ray", "!!"], "--ray !!: no cluster answers"),
        (["-optimize", "--storage", "postgresql+psycopg://u:pw@127.0.0.1:1/d"], "--storage needs --study-name"),
        (["--seeds", "0-999999999"], "more than 1000 at once"),
        (["--trial-id", "0"], "--trial-id needs --storage and --study-name"),
        (["-optimize", "--storage", "postgresql+psycopg://u:pw@127.0.0.1:1/d", "--study-name", "s"], "u:***@127.0.0.1"),
        (["--seeds", "0-1", "-n", "many"], "seed_0: sb3-stable-ppo train: error: argument -n/--n-timesteps"),
    ],
)
def test_a_mistake_in_seeds_is_one_sentence(
    args: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--env", "CartPole-v1", "-n", "64", "-f", str(tmp_path), *args]) == 2
    assert complaint in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "stable_ppo").exists()


@pytest.mark.slow
def test_each_seed_is_one_run_though_a_worker_is_killed(tmp_path: Path) -> None:
    slow = config_with(tmp_path, "helpers.callbacks.Slow")
    call = ["train", "--env", "CartPole-v1", "-n", "256", "--seeds", "3-5", "--workers", "2", "--no-report"]
    launcher = begin(*call, *slow, "-f", str(tmp_path / "logs"))

    def pid() -> int:
        found = sorted((tmp_path / "logs").glob("stable_ppo/*/progress.csv"))
        begun = [path for path in found if path.read_text()]
        return json.loads((begun[0].parent / "run.json").read_text())["pid"] if begun else 0

    os.kill(until(pid), signal.SIGKILL)
    assert launcher.wait(200) == 0
    assert runs_in(tmp_path / "logs") == [(3, "finished"), (4, "finished"), (5, "finished")]
    assert len(list((tmp_path / "logs" / "died").iterdir())) == 1


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
    assert caller.wait(20) != 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.slow
def test_ctrl_c_saves_the_seeds_that_run(tmp_path: Path) -> None:
    slow = config_with(tmp_path, "helpers.callbacks.Slow")
    call = ["train", "--env", "CartPole-v1", "-n", "100000", "--seeds", "0-1", "--workers", "2", "--no-report"]
    launcher = begin(*call, *slow, "-f", str(tmp_path / "logs"))
    until(lambda: len([p for p in (tmp_path / "logs").glob("stable_ppo/*/progress.csv") if p.read_text()]) == 2)
    launcher.send_signal(signal.SIGTERM)
    assert launcher.wait(100) == 130
    assert runs_in(tmp_path / "logs") == [(0, "stopped"), (1, "stopped")]
    assert len(list((tmp_path / "logs").glob("stable_ppo/*/CartPole-v1.zip"))) == 2


# -- PostgreSQL --------------------------------------------------------------------------------------------------------


@needs_postgres
def test_a_trial_that_gives_no_sign_of_life_is_tried_again_with_its_parameters(where: str) -> None:
    study = open_study(open_storage(where, heartbeat=1), "s", PLAN, "none", 0, 1)
    lost, alive = study.ask(), study.ask()
    for trial in (lost, alive):
        trial.set_user_attr(WORKER, "another-machine:1:1")
        trial.suggest_float("learning_rate", 1e-5, 5e-3, log=True)
        study._storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]
    deadline = time.monotonic() + 4.5
    while time.monotonic() < deadline:
        study._storage.record_heartbeat(alive._trial_id)  # type: ignore[attr-defined]
        time.sleep(0.3)
    requeue_dead_trials(study, heartbeat=1)
    requeue_dead_trials(study, heartbeat=1)
    assert [trial.state.name for trial in study.trials] == ["FAIL", "RUNNING", "WAITING"]
    assert study.trials[2].user_attrs == {FIRST: 0, RETRIES: 1}
    again = study.ask()
    claim(again, 2)
    assert again.suggest_float("learning_rate", 1e-5, 5e-3, log=True) == lost.params["learning_rate"]
    study.tell(again, 1.0)
    with pytest.raises(ValueError, match="Cannot tell"):  # the lost one's machine was only cut off, and is back
        study.tell(lost, 2.0)
    assert totals(study) == [1, 0]


@needs_postgres
def test_processes_that_come_to_an_empty_database_at_once_all_find_it_made(where: str) -> None:
    code = "import sys; from sb3_stable_ppo.storages import open_storage; open_storage(sys.argv[1]); print('ready')"
    asking = [
        subprocess.Popen([sys.executable, "-c", code, where], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    assert [process.communicate(timeout=60)[0] for process in asking] == ["ready\n"] * 4


@needs_postgres
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
    time.sleep(3)
    commands = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert "sb3_stable_ppo.tune_worker" in commands
    secret = postgres_server.PASSWORD.replace("/", "%2F")
    assert not [line for line in commands.splitlines() if secret in line and "tune_worker" in line]
    study = until(lambda: _study(where))
    os.kill(until(lambda: worker_of_a_trial(study)), signal.SIGKILL)
    assert [launcher.wait(200) for launcher in launchers] == [0, 0]
    assert totals(study) == [1] * 5
    assert [trial.state.name for trial in study.trials].count("FAIL") >= 1
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path
            assert postgres_server.PASSWORD.encode() not in path.read_bytes(), path


def _study(where: str, name: str = "tune_CartPole-v1") -> optuna.Study | None:
    try:
        return optuna.load_study(study_name=name, storage=open_storage(where))
    except (KeyError, UsageError):
        return None


@needs_postgres
def test_a_password_may_be_in_pgpass_alone(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = tmp_path / "pgpass"
    secrets.write_text(f"127.0.0.1:*:*:{postgres_server.USER}:{postgres_server.PASSWORD}\n")
    secrets.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(secrets))
    name, _, rest = where.partition(":s3cret%2Fword")
    study = open_study(open_storage(name + rest), "s", PLAN, "none", 0, 1)
    assert study.trials == []


@needs_postgres
@pytest.mark.slow
def test_rl_zoo3s_own_tuning_keeps_no_password_either(where: str, tmp_path: Path) -> None:
    config = config_with(tmp_path)
    storage = ["--storage", where, "--study-name", "zoo"]
    call = ["train", "--env", "CartPole-v1", "-n", "64", "-f", str(tmp_path / "logs"), "--no-report", *config, *storage]
    once = ["-optimize", "--n-trials", "1", "--n-evaluations", "1", "--eval-episodes", "1", "--no-optim-plots"]
    assert begin(*call, *once).wait(100) == 0
    assert begin(*call, "--trial-id", "0", "--eval-freq", "-1").wait(100) == 0
    (saved,) = (tmp_path / "logs").glob("stable_ppo/CartPole-v1_*/CartPole-v1/command.txt")
    assert "tuner:***@127.0.0.1" in saved.read_text()
    assert "tuner:***@127.0.0.1" in (saved.parent / "args.yml").read_text()
    for path in (tmp_path / "logs").rglob("*"):
        assert not path.is_file() or b"s3cret" not in path.read_bytes(), path


@needs_postgres
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


# -- Ray ---------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_job_whose_process_dies_is_done_again_by_ray(cluster: Any, tmp_path: Path) -> None:
    jobs = [Job("one", (script(tmp_path, KILLED_AT_FIRST), "2")), Job("two", ("-m", "sb3_stable_ppo", "--version"))]
    assert run_on_ray(jobs, 2, tmp_path / "logs", {}, address=cluster.address) == {"one": 0, "two": 0}
    assert len(list(tmp_path.glob("try_*"))) == 3
    assert (tmp_path / "logs" / "one.log").read_text() == "done at last\n"
    assert (tmp_path / "logs" / "two.log").read_text().startswith("sb3-stable-ppo ")


@pytest.mark.slow
def test_a_job_that_fails_on_ray_leaves_its_traceback_and_is_not_done_again(cluster: Any, tmp_path: Path) -> None:
    code = 'print("before", flush=True)\nraise RuntimeError("no such luck")'
    statuses = run_on_ray([Job("one", (script(tmp_path, code),))], 1, tmp_path / "logs", {}, address=cluster.address)
    assert statuses == {"one": 1}
    log = (tmp_path / "logs" / "one.log").read_text()
    assert log.startswith("before\nTraceback")
    assert log.endswith("RuntimeError: no such luck\n")
    assert log.count("before") == 1


@pytest.mark.slow
def test_each_seed_is_one_run_on_ray_though_a_worker_is_killed(cluster: Any, tmp_path: Path) -> None:
    slow = config_with(tmp_path, "helpers.callbacks.Slow")
    call = ["train", "--env", "CartPole-v1", "-n", "256", "--seeds", "0-2", "--no-report", "--ray", cluster.address]
    launcher = begin(*call, *slow, "--workers", "3", "-f", str(tmp_path / "logs"))

    def pid() -> int:
        begun = [path for path in (tmp_path / "logs").glob("stable_ppo/*/progress.csv") if path.read_text()]
        return json.loads((begun[0].parent / "run.json").read_text())["pid"] if begun else 0

    os.kill(until(pid), signal.SIGKILL)
    assert launcher.wait(200) == 0
    assert runs_in(tmp_path / "logs") == [(0, "finished"), (1, "finished"), (2, "finished")]
    assert len(list((tmp_path / "logs" / "died").iterdir())) == 1


@needs_postgres
@pytest.mark.slow
def test_no_trial_is_lost_or_counted_twice_when_a_worker_and_a_node_of_the_cluster_die(
    cluster: Any, where: str, tmp_path: Path
) -> None:
    call = [
        *flags(tmp_path, "helpers.callbacks.Slow", steps=256),
        "--gym-packages",
        "helpers.callbacks",
        "--trials",
        "6",
    ]
    call += ["--pruner", "none", "--storage", where, "--workers", "3", "--ray", cluster.address, "--heartbeat", "2"]
    doomed = cluster.add_node(num_cpus=1)  # a third: each has one of the workers
    launcher = begin(*call)
    study = until(lambda: _study(where))
    until(lambda: len(running(study)) == 3)
    os.kill(until(lambda: worker_of_a_trial(study)), signal.SIGKILL)
    until(lambda: any(trial.state.is_finished() for trial in study.get_trials(deepcopy=False)))
    cluster.remove_node(doomed, allow_graceful=False)
    assert launcher.wait(300) == 0
    assert totals(study) == [1] * 6


def test_ray_needs_a_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["tune", "--env", "CartPole-v1", "-n", "64", "-f", str(tmp_path / "logs"), "--ray", "auto"]
    assert main(call) == 2
    assert "--ray needs --storage with the URL of a database" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("where_to", ["here", "ray"])
def test_the_gauntlet_is_spread_and_each_cell_is_on_record_once(
    where_to: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    flags = [
        "--stresses",
        "cartpole-one-sample-mask",
        "cartpole-one-sample-lstm",
        "--variants",
        "stock",
        "--seeds",
        "0",
    ]
    flags += ["--workers", "2"]
    if where_to == "ray":
        flags += ["--ray", request.getfixturevalue("cluster").address]
    environment = {**os.environ, "BENCHMARK_RESULTS": str(tmp_path)}
    command = [sys.executable, str(ROOT / "benchmarks" / "gauntlet.py"), *flags]
    for _ in range(2):
        subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True, timeout=200)
    rows = [json.loads(line) for line in (tmp_path / "gauntlet.jsonl").read_text().splitlines()]
    assert sorted(row["cell"]["stress"] for row in rows) == ["cartpole-one-sample-lstm", "cartpole-one-sample-mask"]
