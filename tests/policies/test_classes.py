"""The policies: architecture, init, options, saving and loading, under stock algorithms."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.policies import ActorCriticCnnPolicy, ActorCriticPolicy
from torch import nn

from helpers.envs import SceneEnv, make_cartpole, make_pong
from helpers.processes import run_python
from helpers.weights import assert_same_weights
from sb3_stable_ppo import StableCnnPolicy, StableMlpPolicy, StableMultiInputPolicy, StablePongPolicy, StablePPO
from sb3_stable_ppo.policies.calibration import norms_with_statistics
from sb3_stable_ppo.policies.running_batch_norm import RunningBatchNorm2d

pytestmark = pytest.mark.slow(seconds=1)

FRAMES = spaces.Box(0, 255, (4, 84, 84), np.uint8)
VECTOR = spaces.Box(-1.0, 1.0, (4,))
SCENE = SceneEnv().observation_space
ACTIONS = spaces.Discrete(6)
SPACES = {
    StablePongPolicy: FRAMES,
    StableCnnPolicy: FRAMES,
    StableMlpPolicy: VECTOR,
    StableMultiInputPolicy: SCENE,
}


def build(policy: type, **kwargs: Any) -> Any:
    th.manual_seed(0)
    return policy(SPACES[policy], ACTIONS, lambda _: 1e-4, **kwargs)


def is_orthogonal(weight: th.Tensor, gain: float) -> bool:
    """Whether rows (or columns, the fewer) are orthogonal with norm ``gain``."""
    matrix = weight.detach().flatten(1).double()
    matrix = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    gram = matrix @ matrix.T
    return bool(th.allclose(gram, gain**2 * th.eye(len(gram), dtype=th.float64), atol=1e-5))


def body_layers(policy: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    heads = {policy.action_net, policy.value_net}
    return [m for m in policy.modules() if isinstance(m, (nn.Conv2d, nn.Linear)) and m not in heads]


@pytest.mark.parametrize("policy", SPACES)
def test_orthogonal_init_with_gain_08_survives_sb3s_build(policy: type) -> None:
    built = build(policy)
    assert all(is_orthogonal(layer.weight, 0.8) for layer in body_layers(built))
    assert all(bool((layer.bias == 0).all()) for layer in body_layers(built))
    assert is_orthogonal(built.action_net.weight, 0.01)
    assert is_orthogonal(built.value_net.weight, 1.0)


def test_separate_extractors_are_both_initialised() -> None:
    built = build(StableCnnPolicy, share_features_extractor=False, init_gain=0.5)
    assert built.vf_features_extractor is not built.pi_features_extractor
    assert all(is_orthogonal(layer.weight, 0.5) for layer in body_layers(built))


def test_ortho_init_false_leaves_torchs_init() -> None:
    built = build(StableMlpPolicy, ortho_init=False)
    assert not any(is_orthogonal(layer.weight, 0.8) for layer in body_layers(built))
    assert any(bool((layer.bias != 0).any()) for layer in body_layers(built))


def test_the_optimizer_holds_the_reinitialised_parameters_with_sb3s_eps() -> None:
    built = build(StablePongPolicy)
    held = {id(parameter) for group in built.optimizer.param_groups for parameter in group["params"]}
    assert held == {id(parameter) for parameter in built.parameters()}
    assert built.optimizer.defaults["eps"] == 1e-5


@pytest.mark.parametrize(("optimizer_class", "eps"), [(th.optim.Adam, 1e-5), (th.optim.AdamW, 1e-8)])
def test_optimizer_kwargs_leave_adam_sb3s_eps_and_other_optimizers_their_own(optimizer_class: Any, eps: float) -> None:
    built = build(StableMlpPolicy, optimizer_class=optimizer_class, optimizer_kwargs={"weight_decay": 0.01})
    assert built.optimizer.defaults["eps"] == eps


def test_pong_policy_has_an_actor_and_a_critic_of_512_units_each() -> None:
    built = build(StablePongPolicy)
    assert [str(module) for module in built.mlp_extractor.policy_net] == [
        "Linear(in_features=3136, out_features=512, bias=True)",
        "LeakyReLU(negative_slope=0.01)",
    ]
    assert built.mlp_extractor.value_net[0].out_features == 512
    assert built.action_net.in_features == built.value_net.in_features == 512
    assert {type(norm) for norm in norms_with_statistics(built)} == {RunningBatchNorm2d}


def test_cnn_policy_has_one_trunk_and_as_many_weights_as_stock() -> None:
    ours = build(StableCnnPolicy, norm="none")
    stock = ActorCriticCnnPolicy(FRAMES, ACTIONS, lambda _: 1e-4)
    assert [p.shape for p in ours.parameters()] == [p.shape for p in stock.parameters()]


def test_mlp_policy_has_norms_in_its_hidden_layers() -> None:
    names = [type(module).__name__ for module in build(StableMlpPolicy).mlp_extractor.policy_net]
    assert names == ["Linear", "LayerNorm", "LeakyReLU"] * 2


@pytest.mark.parametrize("policy", SPACES)
def test_an_unknown_option_is_told_with_the_nearest_and_all_there_are(policy: type) -> None:
    with pytest.raises(ValueError, match=r"no option 'nrom' \(did you mean norm\?\)\. Known .*net_arch.*use_sde"):
        build(policy, nrom="layer")


@pytest.mark.parametrize(("norm", "module"), [("layer", "LayerNorm"), ("batch", "RunningBatchNorm1d")])
def test_norm_hidden_is_the_norm_of_the_linear_layers_alone(norm: str, module: str) -> None:
    built = build(StablePongPolicy, norm="none", norm_hidden=norm)
    assert not [m for m in built.features_extractor.modules() if "Norm" in type(m).__name__]
    for net in (built.mlp_extractor.policy_net, built.mlp_extractor.value_net):
        assert sorted(type(m).__name__ for m in net) == sorted(["Linear", "LeakyReLU", module])


def test_norm_hidden_is_that_of_the_trunk_behind_convolutions_too() -> None:
    built = build(StableCnnPolicy, norm_hidden="layer")
    assert [type(m).__name__ for m in built.features_extractor.linear] == ["Linear", "LayerNorm", "LeakyReLU"]
    scene = build(StableMultiInputPolicy, norm_hidden="layer")
    assert type(scene.features_extractor.extractors["camera"].linear.norm).__name__ == "LayerNorm"


def test_without_norm_hidden_policies_are_built_as_in_the_first_version() -> None:
    assert [type(m).__name__ for m in build(StableCnnPolicy).features_extractor.linear] == ["Linear", "LeakyReLU"]
    scene = build(StableMultiInputPolicy, norm="batch")
    assert not hasattr(scene.features_extractor.extractors["camera"].linear, "norm")
    assert type(scene.mlp_extractor.policy_net.norm1).__name__ == "RunningBatchNorm1d"


@pytest.mark.parametrize("policy", SPACES)
@pytest.mark.parametrize("word", ["norm", "norm_hidden", "norm_position", "activation"])
def test_an_unknown_word_is_an_error_in_every_policy(policy: type, word: str) -> None:
    with pytest.raises(ValueError, match=f"Unknown {word} 'nonsense': choose one of"):
        build(policy, **{word: "nonsense"})


@pytest.mark.parametrize("policy", SPACES)
@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"norm_hidden": False}, "Unknown norm_hidden False: choose one of batch, layer, none"),
        ({"norm_hidden": ""}, "Unknown norm_hidden '': choose one of batch, layer, none"),
        ({"activation": ["relu"]}, r"activation must be one of .*, or a module class such as nn.ReLU, not \['relu'\]"),
        ({"lean": 1}, "Unknown lean 1: choose one of true, false, auto"),
        ({"compile": 1}, "Unknown compile 1: choose one of true, false, auto"),
        ({"net_arch": {"actor": [8]}}, r"net_arch has no network 'actor': pi is the actor's, vf the critic's"),
        ({"net_arch": {"pi": 8}}, r"net_arch must be the widths of the hidden layers, such as \[64, 64\], .* not 8"),
        ({"net_arch": 64}, r"net_arch must be the widths of the hidden layers, .* not 64"),
        ({"net_arch": [64, -3]}, "A width in net_arch must be a whole number of at least 1, not -3"),
    ],
)
def test_a_value_of_the_wrong_kind_is_an_error_in_every_policy(policy: type, options: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        build(policy, **options)


@pytest.mark.parametrize(
    ("policy", "options", "complaint"),
    [
        (
            StableCnnPolicy,
            {"features_dims": 3},
            r"StableCNN has no option 'features_dims' \(did you mean features_dim\?\)",
        ),
        (StableCnnPolicy, {"features_dim": 0}, "features_dim must be a whole number of at least 1, not 0"),
        (StableMultiInputPolicy, {"output_dim": 3}, r"StableCombinedExtractor has no option .*mean cnn_output_dim\?"),
    ],
)
def test_an_option_of_the_extractor_that_it_cannot_take_is_named(policy: type, options: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        build(policy, features_extractor_kwargs=options)


@pytest.mark.parametrize(
    ("policy", "space", "advice"),
    [
        (StablePongPolicy, VECTOR, "StableMlpPolicy for vectors"),
        (StableCnnPolicy, SCENE, "StableMultiInputPolicy for Dict"),
        (StableMlpPolicy, SCENE, "Use StableMultiInputPolicy"),
        (StableMultiInputPolicy, FRAMES, "Use StableCnnPolicy for images"),
    ],
)
def test_observations_of_the_wrong_kind_name_the_right_policy(policy: type, space: spaces.Space, advice: str) -> None:
    with pytest.raises(ValueError, match=advice):
        policy(space, ACTIONS, lambda _: 1e-4)


def test_images_that_are_scaled_already_are_taken_with_normalize_images_false() -> None:
    scaled = spaces.Box(0.0, 1.0, (4, 84, 84), np.float32)
    built = StablePongPolicy(scaled, ACTIONS, lambda _: 1e-4, normalize_images=False)
    assert built.predict(np.zeros((4, 84, 84), np.float32))[0].shape == ()
    with pytest.raises(ValueError, match="normalize_images=False"):
        StablePongPolicy(scaled, ACTIONS, lambda _: 1e-4)


@pytest.mark.parametrize("algorithm", [PPO, A2C])
@pytest.mark.parametrize(
    ("policy", "make_env"),
    [
        (StablePongPolicy, make_pong),
        (StableCnnPolicy, make_pong),
        (StableMlpPolicy, make_cartpole),
        (StableMultiInputPolicy, SceneEnv),
    ],
)
def test_every_policy_trains_under_stock_algorithms(algorithm: type, policy: type, make_env: Any) -> None:
    options = {"batch_size": 8, "n_epochs": 1} if algorithm is PPO else {}
    model = algorithm(policy, make_env(), n_steps=8, seed=0, **options)
    before = [p.clone() for p in model.policy.parameters()]
    model.learn(32)
    changed = [not th.equal(old, new) for old, new in zip(before, model.policy.parameters(), strict=True)]
    assert all(changed)
    assert all(bool(th.isfinite(p).all()) for p in model.policy.parameters())


@pytest.mark.parametrize(
    "options", [{"init_gain": -1}, {"init_gain": float("nan")}, {"norm_momentum": 7}, {"negative_slope": "big"}]
)
def test_a_number_outside_its_range_is_an_error_that_names_it(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be a number from"):
        build(StableMlpPolicy, **options)


def test_words_for_the_extractor_alone_are_not_overwritten() -> None:
    built = build(StableCnnPolicy, features_extractor_kwargs={"norm": "batch", "features_dim": 64})
    assert built.features_extractor.block_config.norm == "batch"
    assert built.features_dim == 64


OPTIONS: dict[str, Any] = {
    "norm": "batch",
    "norm_hidden": "layer",
    "norm_position": "before",
    "activation": "elu",
    "init_gain": 0.7,
}


@pytest.mark.slow
@pytest.mark.parametrize("policy", SPACES)
def test_policy_save_and_load_in_a_fresh_process(policy: type, tmp_path: Path) -> None:
    built = build(policy, **OPTIONS, share_features_extractor=False)
    built.save(str(tmp_path / "policy.pt"))
    code = (
        "import sys, torch as th, sb3_stable_ppo as s\n"
        "policy = getattr(s, sys.argv[1]).load(sys.argv[2])\n"
        "print(policy.block_config, policy.init_gain, policy.share_features_extractor)\n"
        "print(float(sum(p.double().abs().sum() for p in policy.state_dict().values())))"
    )
    blocks, total = run_python(code, policy.__name__, str(tmp_path / "policy.pt")).splitlines()[-2:]
    assert blocks == f"{built.block_config} 0.7 False"
    assert float(total) == float(sum(p.double().abs().sum() for p in built.state_dict().values()))


@pytest.mark.slow
def test_model_save_and_load_in_a_fresh_process_predicts_the_same(tmp_path: Path) -> None:
    model = PPO(StableMlpPolicy, make_cartpole(), n_steps=16, batch_size=16, policy_kwargs={**OPTIONS}, seed=0).learn(
        32
    )
    model.save(tmp_path / "model")
    code = (
        "import sys, numpy as np\nfrom stable_baselines3 import PPO\n"
        "obs = np.linspace(-0.1, 0.1, 40, dtype=np.float32).reshape(10, 4)\n"
        "print(PPO.load(sys.argv[1]).predict(obs, deterministic=True)[0].tolist())"
    )
    obs = np.linspace(-0.1, 0.1, 40, dtype=np.float32).reshape(10, 4)
    assert run_python(code, str(tmp_path / "model")).strip() == str(model.predict(obs, deterministic=True)[0].tolist())


@pytest.mark.parametrize("policy", ["MlpPolicy", StableMlpPolicy])
def test_a_stock_ppo_zip_loads_into_stable_ppo_and_back(policy: Any, tmp_path: Path) -> None:
    stock = PPO(policy, make_cartpole(), n_steps=16, batch_size=16, seed=0).learn(32)
    stock.save(tmp_path / "stock")
    ours = StablePPO.load(tmp_path / "stock", env=make_cartpole())
    assert_same_weights(ours, stock)
    assert ours.guards is not None
    ours.learn(32)
    ours.save(tmp_path / "ours")
    back = PPO.load(tmp_path / "ours", env=make_cartpole())
    assert_same_weights(back, ours)
    assert type(back) is PPO
    back.learn(32)


def test_continuous_actions_and_gsde_train() -> None:
    model = PPO(StableMlpPolicy, gym.make("Pendulum-v1"), n_steps=16, batch_size=16, use_sde=True, seed=0).learn(32)
    assert isinstance(model.policy, ActorCriticPolicy)
    assert model.predict(np.zeros(3, np.float32))[0].shape == (1,)
