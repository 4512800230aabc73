"""``tune`` with real trainings, and workers that are killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
import yaml
from optuna.trial import TrialState

from helpers.processes import LIMIT, TESTS
from helpers.tuning import (
    PACKAGES,
    flags,
    states_of,
    with_ctrl_c,
)
from sb3_stable_ppo.cli.app import main
from sb3_stable_ppo.studies.storage import open_storage


@pytest.mark.slow
def test_two_workers_do_every_trial_once_and_the_best_trains_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = [*flags(tmp_path), "--workers", "2", "--seeds", "2", "--pruner", "none"]
    assert main([*args, "--trials", "3"]) == 0
    assert states_of(tmp_path) == ["COMPLETE"] * 3
    folder = tmp_path / "tune_CartPole-v1"
    shown = capsys.readouterr().out
    assert "3 trials: 3 complete" in shown
    assert f"{folder / 'best.yml'}\n" in shown
    *_, said, command = shown.splitlines()
    assert said == "To train the best:"
    assert command in (folder / "best.yml").read_text().replace("# ", "  ")
    trained = subprocess.run(["bash", "-c", f"{command} -f {tmp_path}"], capture_output=True, text=True)
    assert trained.returncode == 0, trained.stderr
    assert json.loads((tmp_path / "stable_ppo/CartPole-v1_1/run.json").read_text())["num_timesteps"] == 512
    assert main([*args, "--trials", "4"]) == 0  # goes on
    assert states_of(tmp_path) == ["COMPLETE"] * 4
    assert len(list((folder / "trials").glob("trial_*/stable_ppo/CartPole-v1_[12]/CartPole-v1.zip"))) == 8
    best = yaml.safe_load((folder / "best.yml").read_text())["CartPole-v1"]
    assert best["policy_kwargs"]["net_arch"] == [16]
    assert best["n_timesteps"] == 512
    assert main([*args, "--trials", "4", "-n", "256"]) == 2
    assert "is of another n_timesteps: 512, here 256" in capsys.readouterr().err


@pytest.mark.slow
def test_health_is_a_second_objective_with_a_front(tmp_path: Path) -> None:
    assert main([*flags(tmp_path), "--trials", "3", "--health"]) == 0
    fronts = sorted((tmp_path / "tune_CartPole-v1").glob("pareto_*.yml"))
    assert fronts
    study = optuna.load_study(
        study_name="tune_CartPole-v1", storage=open_storage(str(tmp_path / "tune_CartPole-v1" / "journal.log"))
    )
    assert {f"pareto_{trial.number}.yml" for trial in study.best_trials} == {path.name for path in fronts}
    for trial in study.trials:
        assert 0 <= trial.values[1] <= 1
        assert trial.values[1] == trial.user_attrs["health"][0]


@pytest.mark.slow
def test_a_collapse_prunes_the_trial_and_no_completed_trial_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    assert main([*flags(tmp_path, "helpers.callbacks.Collapse"), "--trials", "2", *PACKAGES]) == 2
    shown = capsys.readouterr()
    assert "2 trials: 2 pruned; of the pruned ones 2 collapsed." in shown.out
    assert "has no completed trial (yet)" in shown.err
    assert states_of(tmp_path) == ["PRUNED"] * 2


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill -9 of a worker", "Ctrl-C"])
def test_no_trial_is_lost_or_counted_twice(how: str, tmp_path: Path) -> None:
    args = [
        *flags(tmp_path, "helpers.callbacks.Slow", steps=128),
        "--workers",
        "2",
        "--trials",
        "4",
        "--pruner",
        "none",
    ]
    command = [sys.executable, "-m", "sb3_stable_ppo", *args]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    journal = tmp_path / "tune_CartPole-v1" / "journal.log"
    launcher = subprocess.Popen(command, env=environment, preexec_fn=with_ctrl_c)
    deadline = time.monotonic() + 120
    pid = None
    while pid is None and time.monotonic() < deadline:
        time.sleep(0.5)
        lines = journal.read_text().splitlines() if journal.is_file() else []
        names = [json.loads(line)["user_attr"]["worker"] for line in lines if '"worker"' in line]
        pid = int(names[0].split(":")[1]) if names else None
    assert pid is not None
    if how == "Ctrl-C":
        launcher.send_signal(signal.SIGINT)
        assert launcher.wait(LIMIT) == 130
        assert "RUNNING" not in states_of(tmp_path)
        launcher = subprocess.Popen(command, env=environment, preexec_fn=with_ctrl_c)
    else:
        os.kill(pid, signal.SIGKILL)
    assert launcher.wait(LIMIT) == 0
    assert states_of(tmp_path) == ["COMPLETE"] * 4
    study = optuna.load_study(study_name="tune_CartPole-v1", storage=open_storage(str(journal)))
    complete = [trial for trial in study.trials if trial.state is TrialState.COMPLETE]
    assert len(complete) == 4
    assert len([trial for trial in study.trials if trial.state is TrialState.FAIL]) >= 1


@pytest.mark.slow
def test_a_study_in_which_every_trial_fails_ends_with_the_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    call = [*flags(tmp_path, "helpers.callbacks.Broken", steps=64), *PACKAGES]
    assert main([*call, "--trials", "2"]) == 2
    shown = capsys.readouterr()
    assert "All 2 trials of the study 'tune_CartPole-v1' failed, the last with ValueError: no such wall" in shown.err
    assert "2 trials: 2 fail; of the pruned ones 0 collapsed" in shown.out
    assert main([*call, "--trials", "20"]) == 2
    assert "tune: worker_0: 5 trials in a row failed, the last with ValueError: no such wall" in capsys.readouterr().err
    assert states_of(tmp_path) == ["FAIL"] * 7
