"""The help of every command: each flag of ours tells its purpose and its default; each example is understood."""

import argparse
import importlib
import re
import shlex

import pytest

from sb3_stable_ppo.cli import app
from sb3_stable_ppo.cli.app import COMMANDS, main


def parser_of(command: str) -> argparse.ArgumentParser:
    module = importlib.import_module(f"sb3_stable_ppo.cli.{command}") if command else app
    found: argparse.ArgumentParser = module.parser()
    return found


def flags_of(command: str) -> list[argparse.Action]:
    return [action for action in parser_of(command)._actions if action.help is not argparse.SUPPRESS]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_flag_says_what_it_does_and_what_its_default_is(command: str) -> None:
    for action in flags_of(command):
        name = "/".join(action.option_strings) or action.dest
        assert action.help, f"{command} {name} has no help"
        assert len(action.help.split()) > 1, f"{command} {name}: {action.help}"
        takes_a_value = action.nargs != 0 and bool(action.option_strings)
        if takes_a_value and not action.required:
            assert "(default: " in action.help, f"{command} {name} does not say its default"
        if action.default not in (None, False, True, [], argparse.SUPPRESS):
            assert "(default: %(default)s)" in action.help, f"{command} {name} does not show {action.default}"


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_the_values_of_flags_have_readable_names(command: str) -> None:
    for action in flags_of(command):
        has_none = action.choices or action.nargs == 0
        shown = action.metavar or ("" if has_none else action.dest.upper())
        assert re.fullmatch("[A-Z_:]*", str(shown)), f"{command}: {shown}"
        assert len(str(shown)) < 15, f"{command}: {shown}"


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_the_help_ends_with_an_example_that_is_understood(command: str) -> None:
    epilog = parser_of(command).epilog or ""
    *_, head, example = epilog.splitlines()
    program, *words = shlex.split(example)
    assert (head, program) == ("example:", "sb3-stable-ppo")
    parser_of("").parse_args(words[:1])
    assert command in ("", words[0])
    parser_of(words[0]).parse_known_args(words[1:])


@pytest.mark.parametrize(
    ("argv", "ours", "theirs"),
    [
        (["train", "--help"], "--no-report", "-tb TENSORBOARD_LOG"),
        (["enjoy", "-h"], "--video FOLDER", "--load-best"),
        (["plot", "train", "--help"], "--save FILE", "--episode-window"),
    ],
)
def test_commands_of_rl_zoo3_show_our_flags_then_its_own_then_the_example(
    argv: list[str], ours: str, theirs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 0
    shown = capsys.readouterr().out
    shown = shown[shown.index(f"usage: sb3-stable-ppo {argv[0]}") :]  # a bar of another test may stand before it
    positions = [shown.index(text) for text in (f"  {ours}", ", which work too:", theirs, "example:")]
    assert positions == sorted(positions)
    assert shown.rstrip().splitlines()[-1].startswith(f"  sb3-stable-ppo {argv[0]} ")


@pytest.mark.parametrize(
    "argv", [["tune"], ["train", "-n"], ["bench", "--steps", "0"], ["doctor"], ["report"]], ids=" ".join
)
def test_a_wrong_argument_is_one_line_without_the_usage(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"sb3-stable-ppo {argv[0]}: error: ")
    assert line.endswith(f". `sb3-stable-ppo {argv[0]} --help` shows all flags.")
