"""Which unit feeds which inputs, found by running the policy."""

from typing import Any

import pytest
import torch as th
from sb3_contrib import CrossQ, RecurrentPPO
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor
from torch import nn

from helpers.envs import SceneEnv
from helpers.interventions import MODELS, OFF, net
from helpers.weights import assert_same
from sb3_stable_ppo import StablePPO
from sb3_stable_ppo.interventions.unit_graph import UnitGraph, unit_graph
from sb3_stable_ppo.interventions.unit_sharing import without_shared
from sb3_stable_ppo.probes.learners import learners_of

SMALL: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "seed": 0}


def images(discrete: bool = True, size: int = 48) -> FakeImageEnv:
    return FakeImageEnv(screen_height=size, screen_width=size, n_channels=1, discrete=discrete)


def graph_of(model: Any) -> UnitGraph:
    return without_shared(model.policy, unit_graph(model.policy, learners_of(model)))


def readers(graph: UnitGraph, path: str) -> dict[str, list[list[int]]]:
    """Of a layer, by the paths of its readers, their inputs by unit."""
    layer = next(layer for layer in graph.layers if layer.path == path)
    return {reader.path: reader.columns.tolist() for reader in layer.readers}


def one_each(units: int, start: int = 0) -> list[list[int]]:
    return [[start + unit] for unit in range(units)]


@pytest.mark.parametrize("name", MODELS)
def test_every_hidden_linear_layer_of_every_algorithm_is_found(name: str) -> None:
    model = MODELS[name]()
    graph = graph_of(model)
    weights = [weight for learner in learners_of(model) for weight in learner.weights if not weight.is_output]
    paths = {weight.name.rpartition(".")[0] for weight in weights if isinstance(weight.module, nn.Linear)}
    assert {layer.path for layer in graph.layers} == paths
    assert len(paths) >= 2
    assert set(graph.left_alone) == ({"lstm_actor", "lstm_critic"} if name == "RecurrentPPO" else set())


def test_an_actor_of_sac_feeds_mean_and_standard_deviation() -> None:
    assert readers(graph_of(MODELS["SAC"]()), "actor.latent_pi.2") == {
        "actor.mu": one_each(16),
        "actor.log_std": one_each(16),
    }


def test_channels_feed_as_many_neighbouring_inputs_behind_a_flatten_as_a_map_has_places() -> None:
    graph = graph_of(PPO("CnnPolicy", images(), **SMALL))
    places = [[4 * unit + place for place in range(4)] for unit in range(64)]
    assert readers(graph, "features_extractor.cnn.0") == {"features_extractor.cnn.2": one_each(32)}
    assert readers(graph, "features_extractor.cnn.4") == {"features_extractor.linear.0": places}
    assert readers(graph, "features_extractor.linear.0") == {"action_net": one_each(512), "value_net": one_each(512)}


def test_a_trunk_that_is_shared_has_all_who_read_it() -> None:
    graph = graph_of(StablePPO("StablePongPolicy", images(), **SMALL))
    found = readers(graph, "features_extractor.cnn.conv3")
    assert set(found) == {"mlp_extractor.policy_net.fc1", "mlp_extractor.value_net.fc1"}
    kwargs = {"share_features_extractor": True, "net_arch": [16]}
    graph = graph_of(SAC("CnnPolicy", images(discrete=False), policy_kwargs=kwargs, **OFF))
    assert set(readers(graph, "actor.features_extractor.linear.0")) == {
        "actor.latent_pi.0",
        "critic.qf0.0",
        "critic.qf1.0",
    }


@pytest.mark.parametrize("algorithm", [PPO, StablePPO])
def test_a_key_of_a_dict_feeds_its_slice_alone(algorithm: Any) -> None:
    name = "MultiInputPolicy" if algorithm is PPO else "StableMultiInputPolicy"
    graph = graph_of(algorithm(name, SceneEnv(), **SMALL))
    path = next(layer.path for layer in graph.layers if ".camera.linear." in layer.path)
    assert list(readers(graph, path).values()) == [one_each(256)] * 2
    assert graph.left_alone == {}


def test_a_unit_of_crelu_has_two_inputs() -> None:
    model = StablePPO("StableMlpPolicy", "CartPole-v1", policy_kwargs={"net_arch": [8], "activation": "crelu"}, **SMALL)
    expected = [[unit, unit + 8] for unit in range(8)]
    assert readers(graph_of(model), "mlp_extractor.policy_net.fc1") == {"action_net": expected}


@pytest.mark.parametrize("position", ["before", "after"])
def test_norms_are_found_before_and_behind_the_activation(position: str) -> None:
    kwargs = {"net_arch": [8], "norm": "batch", "norm_position": position}
    graph = graph_of(StablePPO("StableMlpPolicy", "CartPole-v1", policy_kwargs=kwargs, **SMALL))
    norms = {layer.path: [(norm.path, norm.columns.tolist()) for norm in layer.norms] for layer in graph.layers}
    assert norms["mlp_extractor.policy_net.fc1"] == [("mlp_extractor.policy_net.norm1", one_each(8))]


def test_the_norms_of_crossq_are_norms() -> None:
    graph = graph_of(CrossQ("MlpPolicy", "Pendulum-v1", **OFF, **net()))
    assert graph.left_alone == {}
    assert [len(layer.norms) for layer in graph.layers] == [1] * 6


class Residual(BaseFeaturesExtractor):
    """``second(relu(first(x))) + third(x)``."""

    def __init__(self, observation_space: Any) -> None:
        super().__init__(observation_space, 8)
        self.first, self.second, self.third = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(4, 8)

    def forward(self, x: th.Tensor) -> th.Tensor:
        return self.second(self.first(x).relu()) + self.third(x)


class Skipping(BaseFeaturesExtractor):
    """``x + relu(first(x))``, or with a frozen layer ``relu(frozen(x)) + relu(first(x))``."""

    def __init__(self, observation_space: Any, frozen: bool = False) -> None:
        super().__init__(observation_space, 4)
        self.first, self.frozen = nn.Linear(4, 4), nn.Linear(4, 4) if frozen else nn.Identity()
        self.frozen.requires_grad_(False)

    def forward(self, x: th.Tensor) -> th.Tensor:
        return self.frozen(x) + self.first(x).relu()


class Mixing(FlattenExtractor):
    """A layer whose units depend on each other behind it."""

    def __init__(self, observation_space: Any) -> None:
        super().__init__(observation_space)
        self.layer = nn.Linear(4, 4)

    def forward(self, x: th.Tensor) -> th.Tensor:
        return self.layer(x).softmax(dim=1)


def test_layers_whose_outputs_are_added_are_left_alone() -> None:
    kwargs = {"features_extractor_class": Residual, "net_arch": [8]}
    graph = graph_of(PPO("MlpPolicy", "CartPole-v1", policy_kwargs=kwargs, **SMALL))
    adds = "adds its outputs to those of another layer"
    assert graph.left_alone == {"features_extractor.second": adds, "features_extractor.third": adds}
    assert readers(graph, "features_extractor.first") == {"features_extractor.second": one_each(8)}


@pytest.mark.parametrize("frozen", [False, True])
def test_a_layer_that_shares_its_inputs_with_observations_or_a_frozen_layer_is_left_alone(frozen: bool) -> None:
    kwargs = {"features_extractor_class": Skipping, "features_extractor_kwargs": {"frozen": frozen}, "net_arch": [8]}
    graph = graph_of(PPO("MlpPolicy", "CartPole-v1", policy_kwargs=kwargs, **SMALL))
    assert graph.left_alone == {
        "features_extractor.first": "feeds mlp_extractor.policy_net.0, which others feed too",
    }
    assert readers(graph, "mlp_extractor.policy_net.0") == {"action_net": one_each(8)}


def test_layers_whose_units_are_mixed_or_feed_something_else_are_left_alone_with_the_reason() -> None:
    kwargs: dict[str, Any] = {"features_extractor_class": Mixing, "net_arch": [8]}
    mixed = graph_of(DQN("MlpPolicy", "CartPole-v1", policy_kwargs=kwargs, **OFF)).left_alone
    path = "q_net.features_extractor.layer"
    assert mixed == {path: "has its units mixed before they reach q_net.q_net.0"}
    noisy = graph_of(PPO("MlpPolicy", "Pendulum-v1", use_sde=True, **SMALL)).left_alone
    assert noisy == {"mlp_extractor.policy_net.2": "feeds the policy's output"}
    recurrent = graph_of(RecurrentPPO("CnnLstmPolicy", images(), **SMALL)).left_alone
    assert recurrent["features_extractor.linear.0"] == "feeds lstm_actor, a LSTM"


def test_a_reader_that_is_frozen_keeps_its_layer_from_being_reset() -> None:
    model = MODELS["PPO"]()
    model.policy.action_net.weight.requires_grad_(False)
    assert graph_of(model).left_alone == {"mlp_extractor.policy_net.2": "feeds action_net, which is not trained"}


def test_looking_changes_nothing_of_policy_and_random_state() -> None:
    model = StablePPO("StablePongPolicy", images(), **SMALL)
    before, state = {k: v.clone() for k, v in model.policy.state_dict().items()}, th.get_rng_state()
    modes = [module.training for module in model.policy.modules()]
    graph_of(model)
    assert_same(before, dict(model.policy.state_dict()), "")
    assert th.equal(state, th.get_rng_state())
    assert modes == [module.training for module in model.policy.modules()]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.policy.modules())
