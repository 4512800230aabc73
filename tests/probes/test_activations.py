"""Probes: which layers they read, of any policy, and that they leave no trace."""

from typing import Any

import pytest
import sb3_contrib
import stable_baselines3
import torch as th
from stable_baselines3 import PPO
from torch import nn

from helpers.envs import SceneEnv, make_cartpole, make_pong
from helpers.transformer import TokensExtractor
from sb3_stable_ppo import StableCnnPolicy, StableMultiInputPolicy, StablePongPolicy
from sb3_stable_ppo.metrics.layers import dead_fraction, live_units
from sb3_stable_ppo.probes.activation_modules import units_second
from sb3_stable_ppo.probes.activations import ActivationProbe, evaluating
from sb3_stable_ppo.probes.layers import Layer, find_layers

pytestmark = pytest.mark.slow(seconds=1)


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
    modes = [module.training for module in policy.modules()]
    with pytest.raises(RuntimeError):
        ActivationProbe(policy)(th.zeros(2, 3, 84, 84, dtype=th.uint8))
    assert policy.training
    assert [module.training for module in policy.modules()] == modes
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


# -- tokens and attention ----------------------------------------------------------------------------------------------


def token_policy(activation: Any = "relu", algorithm: Any = PPO) -> Any:
    kwargs = {
        "features_extractor_class": TokensExtractor,
        "features_extractor_kwargs": {"activation": activation},
        "net_arch": [5],
    }
    return algorithm("MlpPolicy", make_cartpole(), policy_kwargs=kwargs, seed=0).policy


def observations(rows: int = 7) -> th.Tensor:
    return th.randn(rows, 4, generator=th.Generator().manual_seed(0))


def test_attention_is_passed_over_and_the_token_wise_layer_has_its_units_second() -> None:
    policy = token_policy()
    found = ActivationProbe(policy)(observations())
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == {
        "fc5": (7, 16, 4),  # 7 observations, 16 units, 4 tokens
        "pi.fc1": (7, 5),
        "vf.fc1": (7, 5),
    }
    heard: list[th.Tensor] = []
    policy.features_extractor.head.register_forward_hook(lambda *given: heard.append(given[2]))
    ActivationProbe(policy)(observations())
    assert th.equal(found["fc5"], heard[0].transpose(1, 2))


def test_the_feed_forward_layer_of_a_transformer_is_read_where_its_activation_is_a_module() -> None:
    policy = token_policy(nn.GELU())
    probe = ActivationProbe(policy)
    found = probe(observations())
    assert found["fc3"].shape == (7, 8, 4)
    assert probe.describe("fc3") == (
        "fc3 (GELU at features_extractor.encoder.layers.0.activation, "
        "behind Linear at features_extractor.encoder.layers.0.linear1)"
    )


def test_the_fused_attention_is_off_only_while_a_probe_listens() -> None:
    policy = token_policy()
    with ActivationProbe(policy).listening():
        assert not th.backends.mha.get_fastpath_enabled()
    assert th.backends.mha.get_fastpath_enabled()


def test_tokens_that_are_padded_are_read_without_nested_tensors() -> None:
    class Padded(TokensExtractor):
        def forward(self, observations: th.Tensor) -> th.Tensor:
            padding = th.zeros(observations.shape, dtype=th.bool)
            padding[:, 3] = True
            tokens = self.encoder(self.embedding(observations.unsqueeze(-1)), src_key_padding_mask=padding)
            return self.head(tokens).mean(dim=1)

    kwargs = {"features_extractor_class": Padded, "features_extractor_kwargs": {"activation": nn.ReLU()}}
    policy = PPO("MlpPolicy", make_cartpole(), policy_kwargs=kwargs, seed=0).policy
    assert ActivationProbe(policy)(observations())["fc3"].shape == (7, 8, 4)


@pytest.mark.parametrize(
    ("kind", "module", "shape", "expected"),
    [
        ("fc", nn.Linear(3, 6), (5, 6), (5, 6)),
        ("fc", nn.Linear(3, 6), (5, 4, 6), (5, 6, 4)),
        ("fc", nn.Linear(3, 6), (5, 4, 2, 6), (5, 6, 4, 2)),
        ("fc", nn.Linear(3, 6), (5, 6, 4), (5, 6, 4)),  # transposed between layer and activation
        ("fc", nn.Linear(3, 6), (5, 24), (5, 24)),  # flattened: each number counts as a unit
        ("conv", nn.Conv2d(1, 6, 3), (5, 6, 4, 4), (5, 6, 4, 4)),
        ("conv", nn.Conv2d(1, 6, 3), (5, 16, 6), (5, 6, 16)),  # patches turned into tokens
        ("conv", nn.Conv2d(1, 6, 3), (5, 96), (5, 96)),
    ],
)
def test_units_are_in_dimension_one_whatever_the_layout(
    kind: str, module: nn.Module, shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    assert units_second(th.zeros(shape), Layer("layer", "layer", kind, module)).shape == expected


def test_what_is_no_plain_tensor_is_passed_over() -> None:
    class TwoOutputs(nn.ReLU):
        def forward(self, x: th.Tensor) -> Any:
            return x.relu(), x

    TwoOutputs.__module__ = nn.ReLU.__module__

    class First(nn.Module):
        def forward(self, x: Any) -> th.Tensor:
            return x[0]

    policy = PPO("MlpPolicy", make_cartpole(), policy_kwargs={"net_arch": [5]}).policy
    policy.mlp_extractor.policy_net = nn.Sequential(nn.Linear(4, 5), TwoOutputs(), First())
    assert ActivationProbe(policy)(observations()).keys() == {"vf.fc1"}


def test_a_layer_of_tokens_is_judged_by_its_features_not_its_tokens() -> None:
    policy = token_policy()
    linear = policy.features_extractor.head[0]
    linear.weight.data.fill_(0.0)
    linear.bias.data.fill_(1.0)
    linear.bias.data[:12] = -1.0
    found = ActivationProbe(policy)(observations())["fc5"]
    assert (live_units(found), dead_fraction(found)) == (4, 12 / 16)
