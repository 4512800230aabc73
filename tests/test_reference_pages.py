"""The reference pages on the command line, YAML and schedules name what the code has."""

import importlib
import inspect
import re
from dataclasses import fields

import pytest

from helpers.processes import ROOT
from sb3_stable_ppo.cli.app import COMMANDS
from sb3_stable_ppo.guards.config import GuardConfig
from sb3_stable_ppo.policies.activations import ACTIVATIONS
from sb3_stable_ppo.policies.blocks import NORMS
from sb3_stable_ppo.policies.mixin import StablePolicyMixin
from sb3_stable_ppo.schedules.learning_rate import SCHEDULES
from sb3_stable_ppo.zoo.hyperparams import ZOO_KEYS
from sb3_stable_ppo.zoo.vec_envs import VEC_ENV_WORDS

COMMAND_LINE, YAML, SCHEDULE_PAGE = (
    (ROOT / "docs" / name).read_text() for name in ("command_line.md", "yaml.md", "schedules.md")
)
SB3S = {"observation_space", "action_space", "lr_schedule", "net_arch", "features_extractor_class", "kwargs", "args"}
SB3S |= {"features_extractor_kwargs", "optimizer_kwargs", "activation_fn", "self"}
"""Of a policy's arguments, those that SB3's policies have."""


def section(page: str, title: str) -> str:
    (found,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    return str(found)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_a_section_with_two_examples(command: str) -> None:
    examples = re.findall(r"^```bash\n(.*?)^```", section(COMMAND_LINE, command), re.MULTILINE | re.DOTALL)
    assert sum(text.count(f"sb3-stable-ppo {command}") for text in examples) >= 2


def test_each_flag_of_train_that_is_ours_is_on_the_page() -> None:
    parser = importlib.import_module("sb3_stable_ppo.cli.train").parser()
    flags = [action.option_strings[-1] for action in parser._actions if action.help != "==SUPPRESS=="]
    assert len(flags) > 8
    text = section(COMMAND_LINE, "train")
    assert [flag for flag in flags if f"`{flag}" not in text and flag != "--help"] == []


def test_each_word_of_an_entry_is_on_the_page() -> None:
    text = section(YAML, "The entry")
    assert [word for word in (*ZOO_KEYS, *VEC_ENV_WORDS) if f"`{word}`" not in text] == []


def test_each_option_of_our_policies_is_on_the_page() -> None:
    text = section(YAML, "policy_kwargs")
    options = set(inspect.signature(StablePolicyMixin.__init__).parameters) - SB3S
    assert len(options) > 10
    assert [word for word in (*options, *NORMS, *ACTIVATIONS) if f"`{word}`" not in text] == []


def test_each_guard_is_on_the_page_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| `?([^`|]+?)`? \|", section(YAML, "guards"), re.MULTILINE))
    assert list(rows) == [field.name for field in fields(GuardConfig)]
    for field in fields(GuardConfig):
        shown = rows[field.name]
        if isinstance(field.default, (int, float)) and not isinstance(field.default, bool):
            assert float(shown) == field.default, field.name
        else:
            expected = {True: "true", False: "false", (0.05, 20.0): "[0.05, 20]"}.get(field.default, field.default)
            assert shown == expected, field.name


def test_each_schedule_is_explained_with_its_name_in_yaml() -> None:
    for name, schedule in SCHEDULES.items():
        assert re.search(rf"^\| `{schedule.__name__}\([^`]*\)` \| `{name}` \|", SCHEDULE_PAGE, re.MULTILINE), name
        for argument in inspect.signature(schedule).parameters:
            assert f"`{argument}" in SCHEDULE_PAGE, argument
