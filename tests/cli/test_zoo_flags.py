"""``tune`` knows every flag of rl_zoo3's train: what means something here works, and the rest says what to use."""

import argparse
import ast
import inspect
from typing import Any

import pytest
import rl_zoo3.train

from sb3_stable_ppo import UsageError
from sb3_stable_ppo.cli.app import main
from sb3_stable_ppo.cli.tune import parser
from sb3_stable_ppo.cli.zoo_flags import REFUSED, stored
from sb3_stable_ppo.tuning import coordinator

CALL = ["tune", "--env", "CartPole-v1", "-n", "64"]


def flags_of_the_zoo() -> list[tuple[str, ...]]:
    calls = [node for node in ast.walk(ast.parse(inspect.getsource(rl_zoo3.train))) if isinstance(node, ast.Call)]
    added = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "add_argument"]
    return [tuple(arg.value for arg in call.args if isinstance(arg, ast.Constant)) for call in added]


def asked_of_tune(monkeypatch: pytest.MonkeyPatch, *flags: str) -> dict[str, Any]:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(coordinator, "tune", lambda **arguments: asked.update(arguments))
    assert main([*CALL, *flags]) == 0
    return asked


def test_every_flag_of_the_zoo_is_known_by_all_its_names() -> None:
    flags = flags_of_the_zoo()
    assert len(flags) > 40
    known = {name for action in parser()._actions for name in action.option_strings}
    assert {name for names in flags for name in names} <= known


def test_every_flag_that_is_refused_is_one_of_the_zoos() -> None:
    assert set(REFUSED) <= set(flags_of_the_zoo())


@pytest.mark.parametrize("names", REFUSED, ids="/".join)
def test_a_flag_without_a_meaning_here_says_in_one_sentence_what_to_use(
    names: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in names:
        assert main([*CALL, name, "1"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line == f"sb3-stable-ppo: error: tune does not take rl_zoo3's {names[-1]}: {REFUSED[names]}."


@pytest.mark.parametrize(
    ("zoo", "ours"),
    [
        (["--n-trials", "7"], ["--trials", "7"]),
        (["--max-total-trials", "7"], ["--trials", "7"]),
        (["--study-name", "s"], ["--study", "s"]),
        (["--n-jobs", "3"], ["--workers", "3"]),
        (["-conf", "my.yml"], ["--conf-file", "my.yml"]),
        (["-params", "n_steps:256"], ["--hyperparams", "n_steps:256"]),
        (["-optimize", "-P"], []),
    ],
)
def test_the_zoos_name_of_a_flag_is_as_good_as_ours(
    zoo: list[str], ours: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asked_of_tune(monkeypatch, *zoo)
    assert asked == asked_of_tune(monkeypatch, *ours)
    assert asked != asked_of_tune(monkeypatch) or not ours


def test_flags_reach_tune_with_their_values(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ["--sampler", "random", "--n-startup-trials", "3", "--no-optim-plots", "--env-kwargs", "gravity:1.5"]
    asked = asked_of_tune(monkeypatch, *flags, "-params", "n_steps:256", "policy_kwargs:dict(net_arch=[32])")
    assert (asked["sampler"], asked["n_startup_trials"], asked["plots"]) == ("random", 3, False)
    fixed = {"n_steps": 256, "policy_kwargs": {"net_arch": [32]}, "env_kwargs": {"gravity": 1.5}}
    assert asked["hyperparams"] == fixed


def test_a_value_that_is_no_python_is_one_sentence() -> None:
    with pytest.raises(UsageError, match=r"^--hyperparams policy:Mlp Policy: .* \(write name:value; a value is Python"):
        stored("--hyperparams", ["policy:Mlp Policy"])


def test_a_word_without_quotes_is_shown_with_them_and_no_other_value_beside_it() -> None:
    with pytest.raises(UsageError) as raised:
        stored("-params", ["gamma:0.9", "policy:Foo"])
    assert str(raised.value).startswith("-params policy:Foo: NameError: ")
    assert str(raised.value).endswith("as in \"policy:'Foo'\").")


def test_what_is_hidden_from_the_help_has_no_place_among_the_arguments() -> None:
    parsed = parser().parse_args([*CALL[1:], "-P"])
    assert argparse.SUPPRESS not in vars(parsed)
