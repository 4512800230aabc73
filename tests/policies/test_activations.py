"""An activation as a word, as SB3's ``activation_fn``, or of the user's own: built as given, read by the probes."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO
from torch import nn

from helpers.envs import make_cartpole, make_pong
from helpers.weights import assert_same
from sb3_stable_ppo import StableCnnPolicy, StableMlpPolicy, StablePPO, diagnose
from sb3_stable_ppo.policies.activations import ACTIVATIONS, as_activation, chosen_activation
from sb3_stable_ppo.probes.activations import ActivationProbe

VECTOR = spaces.Box(-1.0, 1.0, (4,))
FRAMES = spaces.Box(0, 255, (4, 84, 84), np.uint8)
ACTIONS = spaces.Discrete(2)


class Swish(nn.Module):
    """An activation of a user's own, with one of torch's in it."""

    def __init__(self) -> None:
        super().__init__()
        self.sigmoid = nn.Sigmoid()

    def forward(self, inputs: th.Tensor) -> th.Tensor:
        return inputs * self.sigmoid(inputs)


def normed_relu() -> nn.Module:
    return nn.Sequential(nn.Identity(), nn.ReLU())


def build(policy: type = StableMlpPolicy, space: spaces.Space = VECTOR, **kwargs: Any) -> Any:
    th.manual_seed(0)
    return policy(space, ACTIONS, lambda _: 1e-4, **kwargs)


def activations_of(policy: nn.Module) -> set[type]:
    return {type(module) for path, module in policy.named_modules() if re.search(r"\bact\d*$", path)}


@pytest.mark.parametrize("word", ACTIVATIONS)
@pytest.mark.parametrize(("policy", "space"), [(StableMlpPolicy, VECTOR), (StableCnnPolicy, FRAMES)])
def test_sb3s_class_and_our_word_build_the_same_policy(word: str, policy: type, space: spaces.Space) -> None:
    by_word, by_class = build(policy, space, activation=word), build(policy, space, activation_fn=ACTIVATIONS[word])
    assert str(by_word) == str(by_class)
    assert_same(by_word.state_dict(), by_class.state_dict(), "policy")
    assert by_class.block_config == by_word.block_config
    assert by_class.block_config.activation == word
    assert by_class.activation_fn is ACTIVATIONS[word]


def test_without_a_word_it_is_leaky_relu() -> None:
    assert build().block_config.activation == "leaky_relu"
    assert build().activation_fn is nn.LeakyReLU


def test_sb3s_leaky_relu_takes_our_slope() -> None:
    policy = build(activation_fn=nn.LeakyReLU, negative_slope=0.2)
    assert policy.mlp_extractor.policy_net.act1.negative_slope == 0.2


def test_both_names_may_say_the_same_and_must_not_differ() -> None:
    assert chosen_activation("relu", nn.ReLU) == "relu"
    assert chosen_activation(None, "tanh") == "tanh"
    with pytest.raises(ValueError, match=r"activation='tanh' and activation_fn=.*ReLU.* differ.*Leave one of them out"):
        build(activation="tanh", activation_fn=nn.ReLU)


@pytest.mark.parametrize("activation_fn", [nn.Mish, nn.Softplus, Swish, lambda: nn.LeakyReLU(0.3), normed_relu])
@pytest.mark.parametrize(("policy", "space"), [(StableMlpPolicy, VECTOR), (StableCnnPolicy, FRAMES)])
def test_a_module_without_a_word_is_built_as_given_and_read_by_the_probes(
    activation_fn: Any, policy: type, space: spaces.Space
) -> None:
    built = build(policy, space, activation_fn=activation_fn)
    expected = type(activation_fn())
    assert activations_of(built) == {expected}
    probe = ActivationProbe(built)
    rows = th.as_tensor(np.stack([space.sample() for _ in range(4)]))
    activations = probe(rows)
    assert list(activations) == [layer.name for layer in probe.layers]
    assert {type(module) for _, module in probe.activations.values()} == {expected}
    assert probe.unread == []


def test_the_probe_reads_what_a_users_activation_puts_out_and_not_what_a_part_of_it_does() -> None:
    policy = build(activation_fn=Swish)
    rows = th.linspace(-1, 1, 12).reshape(3, 4)
    net = policy.mlp_extractor.policy_net.eval()
    inputs = net.norm1(net.fc1(rows))
    read = ActivationProbe(policy)(rows)["pi.fc1"]
    assert th.equal(read, inputs * th.sigmoid(inputs))
    assert ActivationProbe(policy).saturating == set()


def test_a_stock_policys_own_activation_is_read_too() -> None:
    model = PPO("MlpPolicy", make_cartpole(), policy_kwargs={"activation_fn": Swish})
    probe = ActivationProbe(model.policy)
    assert list(probe(th.zeros(2, 4))) == ["pi.fc1", "pi.fc2", "vf.fc1", "vf.fc2"]


def test_layers_with_a_function_behind_them_are_named_as_unread_by_probe_and_doctor() -> None:
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

    class WithFunction(BaseFeaturesExtractor):
        def __init__(self, observation_space: spaces.Space) -> None:
            super().__init__(observation_space, 8)
            self.linear = nn.Linear(4, 8)

        def forward(self, observations: th.Tensor) -> th.Tensor:
            return th.relu(self.linear(observations))

    model = StablePPO(
        "StableMlpPolicy", make_cartpole(), seed=0, policy_kwargs={"features_extractor_class": WithFunction}
    )
    probe = ActivationProbe(model.policy)
    rows = th.rand(8, 4)
    assert "fc1" not in probe(rows)
    assert probe.unread == ["fc1"]
    (note,) = [found for found in diagnose(model, rows.numpy()).findings if found.name == "unread_layers"]
    assert note.severity == "note"
    assert note.evidence == "Not read, since no activation module stands behind: fc1."


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("mish", "Unknown activation_fn 'mish': choose one of leaky_relu, .*, or give a module class such as nn.ReLU"),
        (nn.ReLU(), r"must be a class such as nn.ReLU, not the module ReLU\(\)"),
        (th.relu, "must be one of leaky_relu, relu"),
        (nn.GLU, "must be one of leaky_relu, relu"),
        (nn.Module, "must be one of leaky_relu, relu"),
        (dict, "must be one of leaky_relu, relu"),
        (3, "must be one of leaky_relu, relu"),
    ],
)
def test_what_is_no_activation_is_told_with_the_choices(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(activation_fn=given)


@pytest.mark.parametrize("activation_fn", [nn.ReLU, nn.Mish])
def test_a_policy_and_a_model_keep_their_activation_when_they_are_saved(activation_fn: type, tmp_path: Path) -> None:
    model = StablePPO("StableMlpPolicy", make_cartpole(), policy_kwargs={"activation_fn": activation_fn}, seed=0)
    model.save(tmp_path / "model.zip")
    model.policy.save(tmp_path / "policy.pth")
    for policy in (StablePPO.load(tmp_path / "model.zip").policy, StableMlpPolicy.load(tmp_path / "policy.pth")):
        assert activations_of(policy) == {activation_fn}
        assert policy.activation_fn is activation_fn
        assert_same(policy.state_dict(), model.policy.state_dict(), "policy")


def test_as_activation_keeps_a_subclass_as_it_is() -> None:
    class Bounded(nn.ReLU):
        pass

    assert as_activation(Bounded) is Bounded


def test_a_cnn_policy_with_a_users_activation_trains_and_keeps_reading() -> None:
    model = StablePPO(
        "StableCnnPolicy", make_pong(), n_steps=8, batch_size=8, n_epochs=1, policy_kwargs={"activation_fn": Swish}
    )
    model.learn(8)
    frames = th.as_tensor(np.stack([model.observation_space.sample() for _ in range(2)]))
    assert list(ActivationProbe(model.policy)(frames)) == ["conv1", "conv2", "conv3", "fc1"]
