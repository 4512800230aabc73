"""Probes: which layers they read, of any policy, and that they leave no trace."""

from typing import Any

import pytest
import sb3_contrib
import stable_baselines3
import torch as th
from stable_baselines3 import PPO
from torch import nn

from helpers.envs import SceneEnv, make_cartpole, make_pong
from sb3_stable_ppo import StableCnnPolicy, StableMultiInputPolicy, StablePongPolicy
from sb3_stable_ppo.probes.activations import ActivationProbe, evaluating, find_layers


def layer_names(policy: Any) -> list[tuple[str, str]]:
    return [(layer.name, layer.path) for layer in find_layers(policy)]


def test_layers_are_named_as_a_reader_would() -> None:
    assert layer_names(PPO(StablePongPolicy, make_pong()).policy) == [
        ("conv1", "features_extractor.cnn.conv1"),
        ("conv2", "features_extractor.cnn.conv2"),
        ("conv3", "features_extractor.cnn.conv3"),
        ("pi.fc1", "mlp_extractor.policy_net.fc1"),
        ("vf.fc1", "mlp_extractor.value_net.fc1"),
    ]


def test_layers_of_stock_cnn_policy() -> None:
    assert layer_names(PPO("CnnPolicy", make_pong()).policy) == [
        ("conv1", "features_extractor.cnn.0"),
        ("conv2", "features_extractor.cnn.2"),
        ("conv3", "features_extractor.cnn.4"),
        ("fc1", "features_extractor.linear.0"),
    ]


def test_layers_of_dict_observations_and_of_separate_extractors_tell_their_branch() -> None:
    scene = PPO(StableMultiInputPolicy, SceneEnv(), policy_kwargs={"share_features_extractor": False}).policy
    names = [name for name, _ in layer_names(scene)]
    assert names[:4] == ["camera.conv1", "camera.conv2", "camera.conv3", "camera.fc1"]
    assert {"vf.camera.conv1", "pi.fc1", "vf.fc2"} < set(names)


@pytest.mark.parametrize("policy", ["CnnPolicy", StablePongPolicy, StableCnnPolicy])
@pytest.mark.parametrize("share", [True, False])
def test_a_probe_reads_what_the_activations_put_out(policy: Any, share: bool) -> None:
    model = PPO(policy, make_pong(), policy_kwargs={"share_features_extractor": share}, seed=0)
    frames = th.randint(0, 256, (3, 4, 84, 84), generator=th.Generator().manual_seed(0), dtype=th.uint8)
    found = ActivationProbe(model.policy)(frames)
    assert found.keys() == {layer.name for layer in find_layers(model.policy)}
    conv = next(m for m in model.policy.modules() if isinstance(m, nn.Conv2d))
    modules = list(model.policy.features_extractor.cnn)
    expected = frames / 255
    for module in modules[: modules.index(conv) + 3]:
        expected = module.eval()(expected)
        if type(module).__name__.endswith("ReLU"):
            break
    assert th.equal(found["conv1"], expected)
    assert found["conv3"].shape == (3, 64, 7, 7)


def test_a_probe_puts_back_modes_hooks_random_state_and_statistics() -> None:
    policy = PPO(StablePongPolicy, make_pong(), seed=0).policy
    policy.train()
    policy.features_extractor.cnn.norm2.eval()
    modes = [module.training for module in policy.modules()]
    state = {name: value.clone() for name, value in policy.state_dict().items()}
    random_state = th.get_rng_state()
    ActivationProbe(policy)(th.zeros(2, 4, 84, 84, dtype=th.uint8))
    assert [module.training for module in policy.modules()] == modes
    assert all(th.equal(value, state[name]) for name, value in policy.state_dict().items())
    assert th.equal(th.get_rng_state(), random_state)
    assert not any(module._forward_hooks for module in policy.modules())


def test_a_probe_lets_go_after_an_error() -> None:
    policy = PPO(StablePongPolicy, make_pong(), seed=0).policy
    policy.train()
    with pytest.raises(RuntimeError):
        ActivationProbe(policy)(th.zeros(2, 3, 84, 84, dtype=th.uint8))
    assert all(module.training for module in policy.modules())
    assert not any(module._forward_hooks for module in policy.modules())


def test_evaluating_restores_each_modules_own_mode() -> None:
    net = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2)).train()
    net[0].eval()
    with evaluating(net):
        assert not any(module.training for module in net.modules())
    assert [module.training for module in net.modules()] == [True, False, True]


HIDDEN = ["pi.fc1", "pi.fc2", "vf.fc1", "vf.fc2"]
ACTOR_CRITIC = ["actor.fc1", "actor.fc2", *(f"critic.fc{number}" for number in (1, 2, 4, 5))]
"""Of each Q-network of the critic the third layer is its output."""
MLP_LAYERS: dict[str, tuple[str, list[str]]] = {
    "PPO": ("CartPole-v1", HIDDEN),
    "A2C": ("CartPole-v1", HIDDEN),
    "DQN": ("CartPole-v1", ["q_net.fc1", "q_net.fc2"]),
    "SAC": ("Pendulum-v1", ACTOR_CRITIC),
    "TD3": ("Pendulum-v1", ACTOR_CRITIC),
    "DDPG": ("Pendulum-v1", ACTOR_CRITIC[:-2]),
    "QRDQN": ("CartPole-v1", ["quantile_net.fc1", "quantile_net.fc2"]),
    "TQC": ("Pendulum-v1", ACTOR_CRITIC),
    "CrossQ": ("Pendulum-v1", ACTOR_CRITIC),
    "TRPO": ("CartPole-v1", HIDDEN),
    "ARS": ("CartPole-v1", ["action_net.fc1", "action_net.fc2"]),
    "MaskablePPO": ("CartPole-v1", HIDDEN),
    "RecurrentPPO": ("CartPole-v1", HIDDEN),
}


@pytest.mark.parametrize("algorithm", MLP_LAYERS)
def test_a_probe_reads_the_hidden_layers_of_every_algorithm_and_leaves_no_trace(algorithm: str) -> None:
    env, expected = MLP_LAYERS[algorithm]
    cls = getattr(stable_baselines3, algorithm, None) or getattr(sb3_contrib, algorithm)
    policy = "MlpLstmPolicy" if algorithm == "RecurrentPPO" else "MlpPolicy"
    model = cls(policy, env, seed=0, **({} if algorithm == "ARS" else {"policy_kwargs": {"net_arch": [16, 16]}}))
    model.policy.train()
    modes = [module.training for module in model.policy.modules()]
    state, random_state = {name: value.clone() for name, value in model.policy.state_dict().items()}, th.get_rng_state()
    rows = th.as_tensor([model.observation_space.sample() for _ in range(5)])
    probe = ActivationProbe(model.policy)
    found = probe(rows)
    assert sorted(found) == sorted(expected)
    assert all(len(tensor) == 5 for tensor in found.values())
    assert [module.training for module in model.policy.modules()] == modes
    assert all(th.equal(value, state[name]) for name, value in model.policy.state_dict().items())
    assert th.equal(th.get_rng_state(), random_state)
    assert not any(module._forward_hooks for module in model.policy.modules())


@pytest.mark.parametrize("algorithm", ["DQN", "QRDQN", "A2C", "TRPO", "RecurrentPPO", "MaskablePPO"])
def test_convolutions_are_read_whatever_the_algorithm(algorithm: str) -> None:
    cls = getattr(stable_baselines3, algorithm, None) or getattr(sb3_contrib, algorithm)
    options = {"buffer_size": 10} if "DQN" in algorithm else {"n_steps": 8}
    model = cls("CnnLstmPolicy" if algorithm == "RecurrentPPO" else "CnnPolicy", make_pong(1), seed=0, **options)
    found = ActivationProbe(model.policy)(th.zeros(2, 4, 84, 84, dtype=th.uint8))
    names = {name.rpartition(".")[2] for name in found}
    assert {"conv1", "conv2", "conv3", "fc1"} <= names


def test_a_layer_is_described_with_its_activation_and_both_their_places() -> None:
    probe = ActivationProbe(PPO("CnnPolicy", make_pong(1)).policy)
    probe(th.zeros(1, 4, 84, 84, dtype=th.uint8))
    assert probe.describe("conv1") == (
        "conv1 (ReLU at features_extractor.cnn.1, behind Conv2d at features_extractor.cnn.0)"
    )


def test_a_probe_knows_leaky_from_saturating_from_other_activations() -> None:
    def read(activation: type[nn.Module]) -> ActivationProbe:
        probe = ActivationProbe(PPO("MlpPolicy", make_cartpole(), policy_kwargs={"activation_fn": activation}).policy)
        probe(th.zeros(1, 4))
        return probe

    assert (read(nn.Tanh).saturating, read(nn.Tanh).leaky) == (set(HIDDEN), set())
    assert (read(nn.LeakyReLU).saturating, read(nn.LeakyReLU).leaky) == (set(), set(HIDDEN))
    assert (read(nn.ReLU).saturating, read(nn.ReLU).leaky) == (set(), set())
