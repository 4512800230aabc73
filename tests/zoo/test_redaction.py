"""The password of a study's database is in nothing that rl_zoo3's own tuning leaves."""

import sys
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
import rl_zoo3.exp_manager

from helpers.tuning import config_with
from sb3_stable_ppo.cli.app import main
from sb3_stable_ppo.zoo.redaction import unpickled_study

optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.mark.slow
def test_a_study_of_rl_zoo3s_own_tuning_has_no_password_in_its_attributes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///file:{tmp_path}/study.db?uri=true&password=s3cret"
    call = ["train", "--env", "CartPole-v1", "-n", "64", "-f", str(tmp_path / "logs"), "--no-report"]
    study = ["-optimize", f"--storage={url}", "--study-name", "zoo", "--n-trials", "1", "--n-evaluations", "1"]
    call += [*config_with(tmp_path), *study, "--eval-episodes", "1", "--no-optim-plots"]
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "sb3_stable_ppo", *call])
    assert main(call) == 0
    command = optuna.load_study(study_name="zoo", storage=url).user_attrs["command"]
    assert command.startswith("python -m sb3_stable_ppo train --env CartPole-v1")
    assert "password=***" in command
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"s3cret" not in path.read_bytes(), path
    assert len(list((tmp_path / "logs" / "stable_ppo").glob("report_*.csv"))) == 1
    assert not list((tmp_path / "logs" / "stable_ppo").glob("report_*.pkl"))


def test_only_the_calls_own_pickle_is_removed(tmp_path: Path) -> None:
    own, other = tmp_path / "report_1.pkl", tmp_path / "report_2.pkl"
    with unpickled_study("postgresql://me:s3cret@nowhere/db"):
        other.write_bytes(b"of a concurrent call")
        with own.open("wb+") as file:
            rl_zoo3.exp_manager.pkl.dump(SimpleNamespace(url="s3cret"), file)
        assert own.read_bytes() == b""
    assert not own.exists()
    assert other.read_bytes() == b"of a concurrent call"


def test_a_study_in_a_file_is_pickled_as_ever(tmp_path: Path) -> None:
    path = tmp_path / "report_1.pkl"
    with unpickled_study("study.log"), path.open("wb+") as file:
        rl_zoo3.exp_manager.pkl.dump("study", file)
    assert path.read_bytes() != b""
