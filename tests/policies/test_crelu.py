"""The activation ``crelu``: two outputs for each unit, in every policy, on the fast path and in a saved model."""

from pathlib import Path
from typing import Any

import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib.common.envs import InvalidActionEnvDiscrete
from stable_baselines3 import PPO
from stable_baselines3.common.torch_layers import MlpExtractor
from torch import nn

from helpers.crelu import FRAMES, SMALL, SPACES, VECTOR, build, model_of, rows_of
from helpers.envs import SceneEnv, make_cartpole
from helpers.weights import assert_same, assert_same_weights
from sb3_stable_ppo import (
    StableCnnPolicy,
    StableMaskablePPO,
    StableMlpPolicy,
    StableMultiInputPolicy,
    StablePongPolicy,
    StablePPO,
    StableRecurrentPPO,
)
from sb3_stable_ppo.policies.blocks import BlockConfig
from sb3_stable_ppo.policies.crelu import CReLU
from sb3_stable_ppo.policies.extractors import StableCNN, StableMlpExtractor

NORMS = [("layer", "before"), ("layer", "after"), ("batch", "before"), ("batch", "after"), ("none", None)]


# -- the module --------------------------------------------------------------------------------------------------------


def test_it_puts_out_relu_of_x_and_then_relu_of_minus_x() -> None:
    found = CReLU()(th.tensor([[1.0, -2.0, 0.0], [-3.0, 4.0, 5.0]]))
    assert found.tolist() == [[1.0, 0.0, 0.0, 0.0, 2.0, 0.0], [0.0, 4.0, 5.0, 3.0, 0.0, 0.0]]


def test_maps_double_their_channels_and_keep_their_layout() -> None:
    maps = th.randn(2, 3, 5, 5).contiguous(memory_format=th.channels_last)
    found = CReLU()(maps)
    assert found.shape == (2, 6, 5, 5)
    assert th.equal(found[:, :3] - found[:, 3:], maps)
    assert found.is_contiguous(memory_format=th.channels_last)


def test_the_output_has_the_norm_of_the_input() -> None:
    inputs = th.randn(8, 16)
    th.testing.assert_close(CReLU()(inputs).norm(dim=1), inputs.norm(dim=1))


def test_a_unit_passes_the_gradient_whatever_its_sign() -> None:
    inputs = th.tensor([[1.5, -1.5]], requires_grad=True)
    CReLU()(inputs).sum().backward()
    assert inputs.grad.tolist() == [[1.0, -1.0]]


# -- widths ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("norm", "position"), NORMS)
@pytest.mark.parametrize("policy", SPACES)
def test_every_policy_runs_forward_and_backward_with_every_norm(policy: Any, norm: str, position: str | None) -> None:
    built = build(policy, norm=norm, norm_position=position, norm_hidden=norm)
    assert sum(isinstance(module, CReLU) for module in built.modules()) >= 4
    actions, values, _ = built(rows_of(built))
    assert values.shape == (6, 1)
    built.set_training_mode(True)
    values, log_prob, _ = built.evaluate_actions(rows_of(built), actions)
    (values.sum() + log_prob.sum()).backward()
    assert all(parameter.grad is not None for parameter in built.parameters())


@pytest.mark.parametrize(("norm", "position"), NORMS)
def test_a_norm_before_the_activation_has_a_weight_for_each_unit_and_one_after_it_for_each_output(
    norm: str, position: str | None
) -> None:
    built = build(StableCnnPolicy, norm=norm, norm_position=position, norm_hidden=norm)
    factor = 2 if position == "after" else 1
    norms = [module for module in built.modules() if isinstance(module, (nn.GroupNorm, nn.LayerNorm, nn.BatchNorm2d))]
    widths = [len(module.weight) for module in norms]
    expected = {"layer": [32, 64, 64, 512], "batch": [32, 64, 64], "none": []}[norm]
    assert widths == [factor * units for units in expected]


def test_the_widths_that_follow_double_and_the_units_stay() -> None:
    built = build(StableCnnPolicy, net_arch=[32, 16])
    convs = [module for module in built.features_extractor.cnn if isinstance(module, nn.Conv2d)]
    assert [(conv.in_channels, conv.out_channels) for conv in convs] == [(4, 32), (64, 64), (128, 64)]
    fc = built.features_extractor.linear.fc
    assert (fc.in_features, fc.out_features) == (128, 512)
    assert built.features_extractor.features_dim == built.features_dim == 1024
    hidden = [module for module in built.mlp_extractor.policy_net if isinstance(module, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in hidden] == [(1024, 32), (64, 16)]
    assert (built.mlp_extractor.latent_dim_pi, built.mlp_extractor.latent_dim_vf) == (32, 32)
    assert (built.action_net.in_features, built.value_net.in_features) == (32, 32)


@pytest.mark.parametrize(
    ("net_arch", "latent"), [([], (4, 4)), ({"pi": [8], "vf": []}, (16, 4)), ({"vf": [8, 5]}, (4, 10))]
)
def test_a_network_without_hidden_layers_keeps_its_width(net_arch: Any, latent: tuple[int, int]) -> None:
    hidden = build(StableMlpPolicy, net_arch=net_arch).mlp_extractor
    assert (hidden.latent_dim_pi, hidden.latent_dim_vf) == latent


def test_features_dim_counts_units_and_without_it_the_last_map_doubles() -> None:
    assert StableCNN(FRAMES, 16, activation="crelu").features_dim == 32
    assert StableCNN(FRAMES, None, activation="crelu").features_dim == 2 * 64
    built = build(StableMultiInputPolicy, features_extractor_kwargs={"cnn_output_dim": 16})
    assert built.features_dim == 32 + 2
    assert built.extract_features(rows_of(built)).shape == (6, 34)


def test_gsde_fits_the_doubled_width() -> None:
    built = StableMlpPolicy(
        VECTOR, spaces.Box(-1, 1, (2,)), lambda _: 1e-4, activation="crelu", use_sde=True, net_arch=[8]
    )
    assert built.log_std.shape == (16, 2)
    built.reset_noise(6)
    assert built(rows_of(built))[0].shape == (6, 2)


@pytest.mark.parametrize("policy", SPACES)
def test_the_orthogonal_init_keeps_its_gain(policy: Any) -> None:
    built = build(policy, init_gain=0.5)
    for module in built.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)) and module not in (built.action_net, built.value_net):
            matrix = module.weight.detach().flatten(1)
            gram = matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
            th.testing.assert_close(gram, 0.25 * th.eye(len(gram)), rtol=0, atol=1e-5)
            assert not module.bias.any()


@pytest.mark.parametrize("policy", SPACES)
def test_the_weights_have_the_names_that_they_have_with_relu(policy: Any) -> None:
    assert list(build(policy).state_dict()) == list(build(policy, activation="relu").state_dict())


def test_without_crelu_the_hidden_layers_are_the_ones_that_sb3_drew() -> None:
    th.manual_seed(0)
    ours = StableMlpExtractor(4, [8, 8], BlockConfig(norm="none", activation="relu"), "cpu")
    th.manual_seed(0)
    theirs = MlpExtractor(4, [8, 8], nn.ReLU, "cpu")
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert th.equal(a, b)


# -- training, saving, resuming ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [PPO, StablePPO])
def test_a_model_is_loaded_with_its_weights_and_goes_on(cls: Any, tmp_path: Path) -> None:
    model = cls(StableMlpPolicy, make_cartpole(), policy_kwargs={"activation": "crelu"}, **SMALL).learn(32)
    model.save(tmp_path / "model.zip")
    model.policy.save(tmp_path / "policy.pth")
    loaded = cls.load(tmp_path / "model.zip", env=make_cartpole())
    assert_same_weights(loaded, model)
    assert_same(StableMlpPolicy.load(tmp_path / "policy.pth").state_dict(), model.policy.state_dict(), "policy")
    loaded.learn(32, reset_num_timesteps=False)
    assert loaded.num_timesteps == 64


def test_the_class_says_the_same_as_the_word() -> None:
    model = StablePPO("StableMlpPolicy", make_cartpole(), policy_kwargs={"activation_fn": CReLU}, **SMALL)
    assert model.policy.block_config.activation == "crelu"
    assert model.policy.activation_fn is CReLU


def test_the_maskable_form_trains() -> None:
    model = model_of(StableMaskablePPO, env=InvalidActionEnvDiscrete(dim=6)).learn(32)
    assert model.policy.action_net.in_features == 128


@pytest.mark.parametrize(
    "lstm", [{}, {"shared_lstm": True, "enable_critic_lstm": False}, {"enable_critic_lstm": False}], ids=str
)
def test_the_lstm_of_the_recurrent_form_takes_the_doubled_features(lstm: dict[str, bool]) -> None:
    options = {"lstm_hidden_size": 8, "net_arch": [8], "features_extractor_kwargs": {"cnn_output_dim": 16}, **lstm}
    model = model_of(StableRecurrentPPO, "StableMultiInputPolicy", SceneEnv(), policy_kwargs=options).learn(16)
    assert model.policy.lstm_actor.input_size == 32 + 2
    assert model.policy.mlp_extractor.policy_net.fc1.in_features == 8
    assert model.policy.action_net.in_features == 16


def test_a_users_own_class_that_doubles_is_refused_with_the_choices() -> None:
    class Doubling(CReLU):
        pass

    with pytest.raises(ValueError, match=r"must be one of leaky_relu, .*, crelu, or a module class"):
        build(StableMlpPolicy, activation=Doubling)


# -- faster ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["layer", "batch", "none"])
def test_the_fast_path_computes_the_same(norm: str) -> None:
    plain = build(StablePongPolicy, norm=norm)
    fast = build(StablePongPolicy, norm=norm, memory_format="channels_last", precision="bf16")
    fast.load_state_dict(plain.state_dict())
    with th.no_grad():
        expected, found = (one.extract_features(rows_of(one)) for one in (plain, fast))
    assert found.shape == expected.shape == (6, 128)
    assert float((found - expected).norm() / expected.norm()) < 0.02


def test_lean_true_is_served_where_actor_and_critic_are_alike_and_where_not() -> None:
    for net_arch in ([8, 8], {"pi": [8], "vf": [4]}):
        built = build(StableMlpPolicy, lean=True, net_arch=net_arch)
        assert built._lean_actor.networks is not None


def test_lean_trains_to_torchs_weights() -> None:
    lean, plain = (model_of(policy_kwargs={"lean": lean}).learn(64) for lean in (True, False))
    for name, weight in plain.policy.state_dict().items():
        th.testing.assert_close(lean.policy.state_dict()[name], weight, rtol=1e-3, atol=1e-4)
