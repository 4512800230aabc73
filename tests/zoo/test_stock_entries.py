"""rl_zoo3's entries with our policy; and our own entries, which differ from them in what is listed here alone."""

from typing import Any

import pytest
import yaml

from sb3_stable_ppo.zoo.entries import File, find_nearest
from sb3_stable_ppo.zoo.hyperparams import check_hyperparams, with_numbers
from sb3_stable_ppo.zoo.registry import ALGORITHMS, config_file
from sb3_stable_ppo.zoo.stock_entries import stock_file, with_our_policy

pytestmark = pytest.mark.slow(seconds=1)

NETWORK = {"ortho_init": False, "activation_fn": "relu", "net_arch": {"pi": [64], "vf": [64]}}
DIFFERENCES: dict[str, dict[str, tuple[Any, Any]]] = {
    "CartPole-v1": {"learning_rate": ({"schedule": "linear", "initial": 1e-3}, "lin_0.001")},
    "Pendulum-v1": {"batch_size": (64, None)},  # SB3's default
    "LunarLander-v3": {"learning_rate": (3e-4, None)},  # SB3's default
    "CartPoleNoVel-v1": {
        "learning_rate": ({"schedule": "linear", "initial": 1e-3}, "lin_0.001"),
        **{f"policy_kwargs.{name}": (None, value) for name, value in NETWORK.items()},
    },
    "PendulumNoVel-v1": {f"policy_kwargs.{name}": (None, value) for name, value in NETWORK.items()},
}
"""By env and key, our value and rl_zoo3's."""
OTHERS = {"PongNoFrameskip-v4", "atari", "Taxi-v4"}
"""Entries of our own making: Pong's learning rate and networks, and an env that rl_zoo3 does not know."""

ENTRIES = [(algo, name) for algo in ALGORITHMS for name in yaml.safe_load(config_file(algo).read_text())]
STOCK = [(algo, name) for algo in ALGORITHMS for name in yaml.safe_load(stock_file(algo).read_text())]


def stock(algo: str) -> File:
    return File("stock", yaml.safe_load(stock_file(algo).read_text()))


def flat(entry: dict[str, Any]) -> dict[str, Any]:
    network = entry.get("policy_kwargs", {})
    others = {key: value for key, value in entry.items() if key != "policy_kwargs"}
    return {**others, **{f"policy_kwargs.{key}": value for key, value in network.items()}}


@pytest.mark.parametrize(("algo", "name"), [entry for entry in ENTRIES if entry[1] not in OTHERS])
def test_our_entries_are_rl_zoo3s_but_for_what_is_listed(algo: str, name: str) -> None:
    found = find_nearest(name, [stock(algo)], False)
    assert found is not None
    ours = flat(with_numbers(yaml.safe_load(config_file(algo).read_text())[name]))
    theirs = flat(with_numbers(with_our_policy(found.entry, ALGORITHMS[algo], found.source)))
    differ = {key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)}
    assert {key: (ours.get(key), theirs.get(key)) for key in differ} == DIFFERENCES.get(name, {})


@pytest.mark.parametrize(("algo", "name"), STOCK)
def test_every_entry_of_rl_zoo3_has_a_policy_of_ours_and_plain_words(algo: str, name: str) -> None:
    theirs = stock(algo).entries[name]
    ours = with_our_policy(theirs, ALGORITHMS[algo], name)
    assert ours["policy"] == {"Mlp": "StableMlpPolicy", "Cnn": "StableCnnPolicy"}[theirs["policy"][:3]]
    assert ours["callback"] == ["sb3_stable_ppo.HealthCallback"]
    assert yaml.safe_load(yaml.safe_dump(ours)) == ours
    changed = ("policy", "policy_kwargs", "callback")
    assert {key: value for key, value in ours.items() if key not in changed} == {
        key: value for key, value in theirs.items() if key not in changed
    }
    if algo != "stable_ppo_mask":  # masks are for discrete actions, without gSDE
        check_hyperparams(ours, ALGORITHMS[algo], name)


def test_what_an_entry_says_of_the_network_is_kept_and_its_callbacks_too() -> None:
    entry = {
        "policy": "MultiInputPolicy",
        "policy_kwargs": "dict(log_std_init=-2, ortho_init=False, activation_fn=nn.GELU, net_arch=dict(pi=[8]))",
        "callback": "a.B",
    }
    assert with_our_policy(entry, ALGORITHMS["stable_ppo"], "here") == {
        "policy": "StableMultiInputPolicy",
        "policy_kwargs": {
            "log_std_init": -2,
            "ortho_init": False,
            "activation_fn": "gelu",
            "net_arch": {"pi": [8]},
            "lean": "auto",
            "optimizer_kwargs": {"fused": True},
        },
        "callback": ["sb3_stable_ppo.HealthCallback", "a.B"],
    }
    own_optimizer = {"policy": "MlpPolicy", "policy_kwargs": {"optimizer_kwargs": {"eps": 1e-8}}}
    assert with_our_policy(own_optimizer, ALGORITHMS["stable_ppo"], "here")["policy_kwargs"] == {
        "optimizer_kwargs": {"eps": 1e-8},
        "lean": "auto",
    }
    for cannot in ({"policy": "MlpPolicy", "use_sde": True}, {"policy": "CnnPolicy"}):
        assert "policy_kwargs" not in with_our_policy(cannot, ALGORITHMS["stable_ppo"], "here")
    assert with_our_policy({"policy": "a.Policy"}, ALGORITHMS["stable_ppo"], "here")["policy"] == "a.Policy"
