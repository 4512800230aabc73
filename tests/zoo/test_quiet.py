"""``train`` prints what a reader needs, and every run has a verdict."""

import warnings
from pathlib import Path

import pytest

from sb3_stable_ppo.cli.app import main
from sb3_stable_ppo.zoo.quiet import OTHER_TYPES, without_hyperparameters, without_other_types

TRAIN = ["train", "--env", "CartPole-v1", "--seed", "1", "--no-report", "--no-progress", "-n", "64"]


@pytest.mark.parametrize(("verbose", "is_shown"), [("1", False), ("2", True)])
def test_hyperparameters_are_printed_only_to_those_who_ask(
    verbose: str, is_shown: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*TRAIN, "--algo", "ppo", "--verbose", verbose, "-f", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert ("OrderedDict" in printed) is is_shown
    assert "Loading hyperparameters from" in printed
    assert "ent_coef" in (tmp_path / "ppo/CartPole-v1_1/CartPole-v1/config.yml").read_text()


def test_what_was_printed_before_an_error_is_not_lost(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with without_hyperparameters(1):
            print("Loading")
            raise ValueError("no entry")

    with pytest.raises(ValueError, match="no entry"):
        fail()
    assert capsys.readouterr().out == "Loading\n"


def test_of_the_warnings_only_that_of_other_types_is_left_out() -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with without_other_types():
            warnings.warn(f"{OTHER_TYPES}<a> != <b>", stacklevel=1)
            warnings.warn("another", stacklevel=1)
    assert [str(each.message) for each in told] == ["another"]


@pytest.mark.parametrize("algo", ["ppo", "a2c"])
def test_a_stock_run_has_its_health_on_record(algo: str, tmp_path: Path) -> None:
    assert main([*TRAIN, "--algo", algo, "-f", str(tmp_path)]) == 0
    assert (tmp_path / algo / "CartPole-v1_1/health.jsonl").is_file()


def test_a_run_without_health_on_request(tmp_path: Path) -> None:
    assert main([*TRAIN, "--algo", "ppo", "--no-health", "-f", str(tmp_path)]) == 0
    assert not (tmp_path / "ppo/CartPole-v1_1/health.jsonl").exists()
