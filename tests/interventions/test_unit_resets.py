"""What the reset of a unit sets, and what it leaves."""

from typing import Any

import pytest
import torch as th
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.envs import FakeImageEnv
from torch import nn

from helpers.interventions import MINIBATCHES, MODELS, ON, net
from sb3_stable_ppo import StablePPO
from sb3_stable_ppo.interventions.fresh import fresh_draw
from sb3_stable_ppo.interventions.unit_graph import UnitLayer, unit_graph
from sb3_stable_ppo.interventions.unit_resets import UnitResets
from sb3_stable_ppo.probes.learners import learners_of
from sb3_stable_ppo.probes.outputs import outputs_of

RELU = {"activation_fn": nn.ReLU}
UNITS = th.tensor([1, 3])


def images() -> FakeImageEnv:
    return FakeImageEnv(screen_height=48, screen_width=48, n_channels=1)


def layer_of(model: Any, path: str) -> UnitLayer:
    return next(layer for layer in unit_graph(model.policy, learners_of(model)).layers if layer.path == path)


def reset(model: Any, layer: UnitLayer, units: th.Tensor = UNITS, means: Any = None) -> dict[str, th.Tensor]:
    fresh = fresh_draw(model, 1)
    with th.no_grad():
        UnitResets(learners_of(model))(layer, units, fresh, means)
    return fresh


MADE: dict[str, Any] = {
    "linear": (lambda: PPO("MlpPolicy", "CartPole-v1", **MINIBATCHES, **net(**RELU)), "mlp_extractor.policy_net.0"),
    "conv": (lambda: PPO("CnnPolicy", images(), **MINIBATCHES), "features_extractor.cnn.0"),
    "conv, flatten, linear": (lambda: DQN("CnnPolicy", images(), buffer_size=9), "q_net.features_extractor.cnn.4"),
    "trunk of two readers": (lambda: PPO("CnnPolicy", images(), **MINIBATCHES), "features_extractor.linear.0"),
    "actor of SAC": (lambda: MODELS["SAC"](), "actor.latent_pi.2"),
    "critic of SAC": (lambda: MODELS["SAC"](), "critic.qf1.0"),
}


@pytest.mark.parametrize("case", MADE)
def test_the_reset_of_a_dead_relu_unit_leaves_all_outputs(case: str) -> None:
    make, path = MADE[case]
    model = make()
    layer = layer_of(model, path)
    with th.no_grad():
        layer.module.weight[UNITS] = 0.0
        layer.module.bias[UNITS] = -1.0
        for reader in layer.readers:
            reader.module.weight += 0.1  # large, so that a column that was forgotten would show
    generator = th.Generator().manual_seed(0)
    shape = model.policy.observation_space.shape
    observations = th.randint(0, 255, (8, *shape), generator=generator).float() / (1 if len(shape) > 1 else 255)
    model.policy.set_training_mode(False)
    with th.no_grad():
        before = outputs_of(model.policy, observations).parameters()
        fresh = reset(model, layer)
        after = outputs_of(model.policy, observations).parameters()
    for first, second in zip(before, after, strict=True):
        th.testing.assert_close(first, second, atol=1e-6, rtol=0)
    assert th.equal(layer.module.weight[UNITS], fresh[f"{path}.weight"][UNITS])
    assert all(not reader.module.weight[:, reader.columns[UNITS].flatten()].any() for reader in layer.readers)


def test_only_the_units_and_their_outgoing_weights_are_moved() -> None:
    model = MODELS["PPO"]()
    layer = layer_of(model, "mlp_extractor.policy_net.0")
    before = {name: parameter.detach().clone() for name, parameter in model.policy.named_parameters()}
    reset(model, layer)
    others = th.tensor([unit for unit in range(16) if unit not in UNITS])
    for name, parameter in model.policy.named_parameters():
        if name == "mlp_extractor.policy_net.2.weight":
            assert th.equal(parameter[:, others], before[name][:, others])
            assert not parameter[:, UNITS].any()
        elif name.startswith("mlp_extractor.policy_net.0"):
            assert th.equal(parameter[others], before[name][others])
        else:
            assert th.equal(parameter, before[name])


@pytest.mark.parametrize("path", ["mlp_extractor.policy_net.0", "mlp_extractor.policy_net.2"])
def test_where_a_whole_layer_is_reset_its_outgoing_weights_are_fresh_too(path: str) -> None:
    """With 0 in all of them no gradient would reach the layer, and nothing that it sees would reach the outputs."""
    model = MODELS["PPO"]()
    layer = layer_of(model, path)
    (reader,) = layer.readers
    fresh = reset(model, layer, th.arange(16))
    assert th.equal(layer.module.weight, fresh[f"{path}.weight"])
    assert th.equal(reader.module.weight, fresh[f"{reader.path}.weight"])


def test_adams_moments_of_what_was_reset_are_0_and_the_median_and_its_step_count_stays() -> None:
    model = MODELS["PPO"]().learn(64)
    layer = layer_of(model, "mlp_extractor.value_net.0")
    state, reader = model.policy.optimizer.state, layer.readers[0].module
    before = {p: {k: v.clone() for k, v in state[p].items()} for p in (layer.module.weight, reader.weight)}
    reset(model, layer)
    others = th.tensor([unit for unit in range(16) if unit not in UNITS])
    for parameter, dim in ((layer.module.weight, 0), (reader.weight, 1)):
        now, old = state[parameter], before[parameter]
        assert now["step"] == old["step"] > 0
        assert not now["exp_avg"].index_select(dim, UNITS).any()
        median = old["exp_avg_sq"].index_select(dim, others).median()
        assert (now["exp_avg_sq"].index_select(dim, UNITS) == median).all()
        for name in ("exp_avg", "exp_avg_sq"):
            assert th.equal(now[name].index_select(dim, others), old[name].index_select(dim, others))


def test_rmsprops_mean_squares_are_the_median_too() -> None:
    model = A2C("MlpPolicy", "CartPole-v1", **ON, **net()).learn(64)
    layer = layer_of(model, "mlp_extractor.value_net.0")
    squares = model.policy.optimizer.state[layer.module.weight]["square_avg"]
    others = th.tensor([unit for unit in range(16) if unit not in UNITS])
    expected = squares[others].median()
    reset(model, layer)
    assert (squares[UNITS] == expected).all()


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_norms_begin_anew_for_the_units_alone(norm: str) -> None:
    model = StablePPO("StableMlpPolicy", "CartPole-v1", policy_kwargs={"net_arch": [8], "norm": norm}, **MINIBATCHES)
    layer = layer_of(model, "mlp_extractor.policy_net.fc1")
    module: Any = layer.norms[0].module
    names = ["weight", "bias"] + (["running_mean", "running_var"] if norm == "batch" else [])
    with th.no_grad():
        for name in names:
            getattr(module, name).fill_(0.5)
    reset(model, layer)
    for name in names:
        expected = th.full((8,), 0.5)
        expected[UNITS] = 1.0 if name in ("weight", "running_var") else 0.0
        assert th.equal(getattr(module, name), expected), name


@pytest.mark.parametrize("path", ["mlp_extractor.policy_net.fc1", "features_extractor.cnn.conv3"])
def test_what_a_unit_contributed_on_average_goes_into_the_bias_of_its_readers(path: str) -> None:
    name, env = ("StablePongPolicy", images()) if "conv" in path else ("StableMlpPolicy", "CartPole-v1")
    model = StablePPO(name, env, **MINIBATCHES)
    layer = layer_of(model, path)
    reader = layer.readers[0]
    weight, bias = reader.module.weight.detach().clone(), reader.module.bias.detach().clone()
    means = [th.rand(each.columns.shape, generator=th.Generator().manual_seed(0)) for each in layer.readers]
    reset(model, layer, means=means)
    moved = sum(weight[:, reader.columns[unit]] @ means[0][unit] for unit in UNITS.tolist())
    th.testing.assert_close(reader.module.bias.detach(), bias + moved)


def test_the_draws_of_a_run_are_its_own_and_leave_its_random_state() -> None:
    model, other = MODELS["PPO"](), PPO("MlpPolicy", "CartPole-v1", n_steps=32, batch_size=16, seed=1, **net())
    state = th.get_rng_state()
    first, again, second, others = (
        fresh_draw(model, 1),
        fresh_draw(model, 1),
        fresh_draw(model, 2),
        fresh_draw(other, 1),
    )
    assert th.equal(state, th.get_rng_state())
    name = "mlp_extractor.policy_net.0.weight"
    assert th.equal(first[name], again[name])
    assert not th.equal(first[name], second[name])
    assert not th.equal(first[name], others[name])
