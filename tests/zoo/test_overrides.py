"""--hyperparams merged into an entry, and errors that say where a key comes from and where it goes."""

from typing import Any

import pytest
from stable_baselines3 import PPO
from torch import nn

from sb3_stable_ppo import StableMaskablePPO, StablePPO
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.zoo.hyperparams import check_hyperparams
from sb3_stable_ppo.zoo.overrides import read_policy_kwargs, with_overrides
from sb3_stable_ppo.zoo.trials import with_policy_kwargs

ENTRY: dict[str, Any] = {"policy": "StableMlpPolicy", "n_timesteps": 64}


def test_policy_kwargs_and_guards_are_merged_and_all_else_is_replaced() -> None:
    entry = {
        "n_envs": 2,
        "env_kwargs": {"a": 1},
        "policy_kwargs": {"norm": "layer", "init_gain": 1},
        "guards": {"max_kl": 1, "undo": True},
    }
    overrides = {"n_envs": 3, "env_kwargs": {}, "policy_kwargs": {"norm": "batch"}, "guards": {"max_kl": 2}}
    assert with_overrides(entry, overrides, "here") == {
        "n_envs": 3,
        "env_kwargs": {},
        "policy_kwargs": {"norm": "batch", "init_gain": 1},
        "guards": {"max_kl": 2, "undo": True},
    }
    assert with_overrides({"guards": {"max_kl": 1}}, {"guards": None}, "here") == {"guards": None}
    assert entry["policy_kwargs"] == {"norm": "layer", "init_gain": 1}


def test_policy_kwargs_in_a_string_are_merged_too() -> None:
    entry = {"policy_kwargs": "dict(net_arch=[8], activation_fn=nn.ReLU)"}
    assert with_overrides(entry, {"policy_kwargs": {"norm": "batch"}}, "here")["policy_kwargs"] == {
        "net_arch": [8],
        "activation_fn": nn.ReLU,
        "norm": "batch",
    }
    assert with_policy_kwargs({"policy_kwargs": {"net_arch": [9]}}, entry)["policy_kwargs"] == {
        "net_arch": [9],
        "activation_fn": nn.ReLU,
    }
    for wrong, complaint in (
        ("dict(", "cannot be evaluated: SyntaxError"),
        ("[1]", "must be a mapping, not '\\[1\\]'"),
    ):
        with pytest.raises(UsageError, match=f"here: policy_kwargs .*{complaint}"):
            read_policy_kwargs(wrong, "here")


def test_an_activation_replaces_one_by_its_other_name() -> None:
    entry = {"policy_kwargs": {"activation_fn": "relu"}}
    assert with_overrides(entry, {"policy_kwargs": {"activation": "tanh"}}, "")["policy_kwargs"] == {
        "activation": "tanh"
    }
    entry = {"policy_kwargs": {"activation": "relu"}}
    assert with_overrides(entry, {"policy_kwargs": {"activation_fn": nn.Tanh}}, "")["policy_kwargs"] == {
        "activation_fn": nn.Tanh
    }


FLAG = "--hyperparams (-params): "
MISTAKES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {"norm": "batch"}, FLAG + "norm goes into policy_kwargs: -params \"policy_kwargs:dict(norm='batch')\"."),
    ({}, {"max_kl": 0.3}, FLAG + 'max_kl goes into guards: -params "guards:dict(max_kl=0.3)".'),
    (
        {},
        {"activation_fn": nn.ReLU},
        FLAG + 'activation_fn goes into policy_kwargs: -params "policy_kwargs:dict(activation_fn=nn.ReLU)".',
    ),
    ({"norm": "batch"}, {}, "here: norm goes into policy_kwargs: {norm: batch}."),
    ({"net_arch": [8]}, {}, "here: net_arch goes into policy_kwargs: {net_arch: [8]}."),
    ({"max_log_ratio": 20}, {}, "here: max_log_ratio goes into guards: {max_log_ratio: 20}."),
    ({"policy_kwargs": {"n_steps": 8}}, {}, "here: n_steps goes beside policy_kwargs, not into it."),
    ({"policy_kwargs": {"max_kl": 1}}, {}, "here: max_kl goes into guards: {max_kl: 1}."),
    ({"guards": {"init_gain": 1}}, {}, "here: init_gain goes into policy_kwargs: {init_gain: 1}."),
    ({}, {"guards": {"gamma": 1}}, FLAG + "gamma goes beside guards, not into it."),
    ({}, {"nrom": "batch"}, FLAG + "unknown key 'nrom' (did you mean norm, in policy_kwargs?). Known are batch_size,"),
    ({}, {"gama": 0.9}, FLAG + "unknown key 'gama' (did you mean gamma?). Known are batch_size,"),
    ({}, {"policy": "StableMlpPolicz"}, FLAG + "unknown policy 'StableMlpPolicz' (did you mean StableMlpPolicy?)"),
    ({}, {"n_envs": 0}, FLAG + "n_envs must be a whole number of at least 1, not 0."),
    ({}, {"callback": "a.B"}, FLAG + "callback 'a.B' cannot be imported"),
    ({"policy_kwargs": {"nrom": 1}}, {"gamma": 0.9}, "here: StableMlpPolicy has no policy_kwargs key 'nrom' (did you"),
]


@pytest.mark.parametrize(("entry", "overrides", "sentence"), MISTAKES)
def test_an_error_names_where_a_key_comes_from_and_where_it_goes(
    entry: dict[str, Any], overrides: dict[str, Any], sentence: str
) -> None:
    merged = with_overrides({**ENTRY, **entry}, overrides, "here")
    with pytest.raises(UsageError) as raised:
        check_hyperparams(merged, StablePPO, "here", overrides)
    assert str(raised.value).startswith(sentence)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            {"policy": "StableMlpPolicy"},
            "unknown policy 'StableMlpPolicy' (did you mean sb3_stable_ppo.StableMlpPolicy?)",
        ),
        ({"guards": {"max_kl": 1}}, "PPO has no guards; stable_ppo, stable_ppo_mask, stable_ppo_lstm (--algo) have."),
    ],
)
def test_stock_ppo_is_told_how_to_have_our_policies_and_who_has_guards(
    overrides: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UsageError) as raised:
        check_hyperparams({"policy": "MlpPolicy", "n_timesteps": 64, **overrides}, PPO, "here", overrides)
    assert str(raised.value).startswith(FLAG + sentence)


OF_A_BOX = (
    "use_sde is for a Box action space, and StableMaskablePPO takes Discrete, MultiDiscrete and MultiBinary ones."
)


@pytest.mark.parametrize(
    ("source", "overrides", "sentence"),
    [
        ("rl_zoo3's ppo.yml, Pendulum-v1", {}, "{source}: {told} For this env choose stable_ppo (--algo)."),
        ("my.yml", {}, "{source}: {told} For a Box choose stable_ppo (--algo); for any other leave use_sde out."),
        (
            "rl_zoo3's ppo.yml, Taxi-v3",
            {"use_sde": True},
            FLAG + "{told} For a Box choose stable_ppo (--algo); for any other leave use_sde out.",
        ),
    ],
)
def test_settings_of_continuous_actions_are_told_as_such_where_there_are_masks(
    source: str, overrides: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UsageError) as raised:
        check_hyperparams({**ENTRY, "use_sde": True}, StableMaskablePPO, source, overrides)
    assert str(raised.value) == sentence.format(source=source, told=OF_A_BOX)


def test_keys_of_a_file_are_its_own_where_the_command_line_changes_others() -> None:
    entry = {**ENTRY, "policy_kwargs": {"nrom": 1}}
    overrides = {"policy_kwargs": {"norm": "batch"}}
    with pytest.raises(UsageError, match=r"^here: StableMlpPolicy has no policy_kwargs key 'nrom'"):
        check_hyperparams(with_overrides(entry, overrides, "here"), StablePPO, "here", overrides)
