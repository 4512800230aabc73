"""The critic in units of its returns: the same values, another gradient, and who tells it the returns."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.env_util import make_vec_env
from torch import nn

from helpers.envs import make_cartpole
from helpers.weights import assert_same, assert_same_weights
from sb3_stable_ppo import (
    StableMaskablePPO,
    StableMlpPolicy,
    StablePPO,
    StableRecurrentPPO,
    ValueNormCallback,
)
from sb3_stable_ppo.policies.value_norm import MIN_STD, MOMENTUM, NormalizedValue

RUNNING: dict[str, Any] = {"norm_value": "running"}


def layer_of(seed: int = 0) -> NormalizedValue:
    th.manual_seed(seed)
    return NormalizedValue.of(nn.Linear(6, 1))


def model_of(algorithm: Any = StablePPO, policy: Any = "StableMlpPolicy", **options: Any) -> Any:
    small = {} if algorithm is A2C else {"batch_size": 8, "n_epochs": 2}
    # a copy: A2C writes its optimizer into the dict it is given
    options = {"n_steps": 16, "seed": 0, "policy_kwargs": {**RUNNING}, **small, **options}
    return algorithm(policy, make_vec_env("CartPole-v1", 2, seed=0), **options)


def no_masks(algorithm: Any) -> dict[str, Any]:
    """Of ``learn``: CartPole masks nothing."""
    return {"use_masking": False} if issubclass(algorithm, MaskablePPO) else {}


# -- the layer ---------------------------------------------------------------------------------------------------------


def test_a_move_leaves_every_value_as_it_was() -> None:
    layer, inputs = layer_of(), th.randn(20, 6)
    before = layer(inputs)
    for scale in (0.01, 300.0, 5.0):
        layer.move(np.random.default_rng(0).normal(-1000, scale, (16, 2)).astype(np.float32))
        th.testing.assert_close(layer(inputs), before, rtol=1e-4, atol=2e-3)


def test_mean_and_variance_are_those_of_all_returns_until_the_newest_get_their_least_share() -> None:
    layer, rollouts = layer_of(), np.random.default_rng(1).normal(7, 3, (30, 40)).astype(np.float32)
    for rollout in rollouts[:20]:
        layer.move(rollout)
    assert float(layer.return_mean) == pytest.approx(rollouts[:20].mean(), rel=1e-5)
    assert float(layer.return_var) == pytest.approx(rollouts[:20].var(), rel=1e-4)
    assert MOMENTUM == 1 / 20
    before = float(layer.return_mean)
    layer.move(rollouts[20])
    assert float(layer.return_mean) == pytest.approx(before + MOMENTUM * (rollouts[20].mean() - before), rel=1e-5)


def test_the_gradient_of_sb3s_loss_is_that_of_the_normalised_returns_loss() -> None:
    layer, inputs, returns = layer_of(), th.randn(32, 6), th.randn(32) * 200 - 900
    layer.move(returns)
    nn.functional.mse_loss(layer(inputs).flatten(), returns).backward()
    found = layer.weight.grad.clone(), layer.bias.grad.clone()
    layer.zero_grad()
    normalised = nn.functional.linear(inputs, layer.weight, layer.bias).flatten()
    nn.functional.mse_loss(normalised, (returns - layer.return_mean) / layer.return_std).backward()
    for mine, theirs in zip(found, (layer.weight.grad, layer.bias.grad), strict=True):
        th.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_returns_that_never_differ_or_are_not_finite_break_nothing() -> None:
    layer = layer_of()
    layer.move(np.zeros((4, 2), np.float32))
    assert float(layer.return_std) == pytest.approx(MIN_STD)
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    layer.move(np.array([1.0, np.nan], np.float32))
    assert_same(layer.state_dict(), before, "layer")
    assert all(bool(th.isfinite(tensor).all()) for tensor in before.values())


# -- in training -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", [StablePPO, StableMaskablePPO, StableRecurrentPPO])
@pytest.mark.parametrize("guards", [None, {}])
def test_our_algorithms_tell_the_critic_by_themselves(algorithm: Any, guards: Any) -> None:
    model = model_of(algorithm, guards=guards).learn(3 * 32, **no_masks(algorithm))
    assert int(model.policy.value_net.rollouts) == 3
    assert model.logger.name_to_value["norm/return_std"] == float(model.policy.value_net.return_std)


@pytest.mark.parametrize(
    ("algorithm", "policy"),
    [
        (PPO, "StableMlpPolicy"),
        (A2C, "StableMlpPolicy"),
        (MaskablePPO, "StableMaskableMlpPolicy"),
        (RecurrentPPO, "StableRecurrentMlpPolicy"),
    ],
)
def test_the_callback_tells_the_critic_of_a_stock_algorithm(algorithm: Any, policy: str) -> None:
    import sb3_stable_ppo

    model = model_of(algorithm, getattr(sb3_stable_ppo, policy)).learn(
        3 * 32, callback=ValueNormCallback(), **no_masks(algorithm)
    )
    assert int(model.policy.value_net.rollouts) == 3
    assert float(model.policy.value_net.return_std) != 1.0


def test_stock_ppo_with_the_callback_is_ours_without_guards_bit_for_bit() -> None:
    stock = model_of(PPO, StableMlpPolicy).learn(5 * 32, callback=ValueNormCallback())
    ours = model_of(guards=None).learn(5 * 32, callback=ValueNormCallback())  # where it does nothing
    assert_same_weights(stock, ours)


def test_a_model_that_is_saved_goes_on_as_one_that_did_not_stop(tmp_path: Path) -> None:
    whole = model_of().learn(3 * 32)
    whole.save(tmp_path / "model")
    stopped = StablePPO.load(tmp_path / "model")
    for model in (whole, stopped):
        model.set_env(make_cartpole(seed=5))
        model.set_random_seed(7)
        model.learn(3 * 32, reset_num_timesteps=False)
    assert_same_weights(whole, stopped)
    whole.policy.save(str(tmp_path / "policy.pth"))
    assert_same(StableMlpPolicy.load(str(tmp_path / "policy.pth")).state_dict(), whole.policy.state_dict(), "policy")


def test_clip_range_vf_stays_in_units_of_the_return() -> None:
    model = model_of(PPO, StableMlpPolicy, clip_range_vf=0.5, batch_size=32, n_epochs=1)
    _, callback = model._setup_learn(32, ValueNormCallback())
    model.collect_rollouts(model.env, callback, model.rollout_buffer, 16)
    old = th.as_tensor(model.rollout_buffer.values.copy()).flatten()
    with th.no_grad():
        model.policy.value_net.bias.add_(10 / model.policy.value_net.return_std)  # all values by 10
    returns = th.as_tensor(model.rollout_buffer.returns.copy()).flatten()
    model.train()
    expected = nn.functional.mse_loss(returns, old + 0.5)
    assert model.logger.name_to_value["train/value_loss"] == pytest.approx(float(expected), rel=1e-5)


def test_a_critic_that_nobody_tells_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="norm_value='running' does nothing: nobody tells the critic the returns"):
        model_of(PPO, StableMlpPolicy).learn(32)


def test_the_callback_asks_for_a_policy_that_normalises_values() -> None:
    with pytest.raises(ValueError, match="ValueNormCallback needs a policy that normalises values, and StableMlp"):
        model_of(PPO, StableMlpPolicy, policy_kwargs={}).learn(32, callback=ValueNormCallback())


def test_an_unknown_word_is_told_with_the_choices() -> None:
    with pytest.raises(ValueError, match="Unknown norm_value 'popart': choose one of none, running"):
        model_of(policy_kwargs={"norm_value": "popart"})


def test_by_default_the_critic_is_sb3s_own() -> None:
    assert type(model_of(policy_kwargs={}).policy.value_net) is nn.Linear
