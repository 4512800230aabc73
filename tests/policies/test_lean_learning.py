"""Small networks learning in NumPy: the same gradients as in torch, in a training run and on weights that change."""

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib import MaskablePPO
from stable_baselines3 import A2C, PPO

from helpers.envs import make_cartpole
from helpers.lean import (
    ACTIONS,
    OBSERVATIONS,
    OPTIONS,
    VECTOR,
    acted,
    assert_acts_alike,
    grown,
    plain_of,
    policy_of,
    rows_of,
    spied,
)
from helpers.weights import assert_same
from sb3_stable_ppo import (
    StableMaskableMlpPolicy,
    StableMlpPolicy,
    StablePPO,
)
from sb3_stable_ppo.policies import lean
from sb3_stable_ppo.policies.lean_networks import networks_of


def evaluated(policy: Any, obs: Any, actions: th.Tensor, **options: Any) -> dict[str, th.Tensor]:
    """What a policy makes of actions, and the gradients of a loss in which all of it counts."""
    policy.set_training_mode(True)
    policy.optimizer.zero_grad()
    values, log_prob, entropy = policy.evaluate_actions(obs, actions, **options)
    weights = th.linspace(-1, 1, len(values))
    (values.flatten() * weights + (log_prob * weights).exp() - 0.3 * entropy * weights**2).sum().backward()
    gradients = {name: parameter.grad for name, parameter in policy.named_parameters()}
    return {"values": values, "log_prob": log_prob, "entropy": entropy, **gradients}


def assert_learns_alike(policy: Any, obs: Any, **options: Any) -> None:
    plain = plain_of(policy)
    policy.set_training_mode(False)
    actions = acted(policy, obs, **options)[0]
    actions = actions.flatten(1) if actions.dim() > 1 else actions  # as a rollout buffer has them
    theirs, ours = (evaluated(one, obs, actions, **options) for one in (plain, policy))
    for name, expected in theirs.items():
        assert expected is not None, name
        assert expected.shape == ours[name].shape, name
        tolerance = 1e-4 * float(expected.abs().max()) + 1e-6
        assert float((ours[name] - expected).abs().max()) <= tolerance, name


@pytest.mark.parametrize("actions", ACTIONS.values(), ids=ACTIONS)
def test_gradients_are_torchs_for_every_kind_of_action(
    actions: spaces.Space[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = policy_of(actions=actions, lean=True)
    seen = spied(monkeypatch)
    assert_learns_alike(policy, rows_of(policy, 32))
    assert seen == [True, True]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gradients_are_torchs_for_every_norm_and_activation(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = policy_of(lean=True, **options)
    seen = spied(monkeypatch)
    assert_learns_alike(policy, rows_of(policy, 32))
    assert seen[-1] is (options.get("norm_statistics") != "batch"), "torch's BatchNorm learns in torch"


@pytest.mark.parametrize("observations", OBSERVATIONS.values(), ids=OBSERVATIONS)
def test_gradients_are_torchs_for_every_kind_of_vector(observations: spaces.Space[Any]) -> None:
    policy = policy_of(observations, lean=True)
    assert_learns_alike(policy, rows_of(policy, 32))


@pytest.mark.parametrize("kind", ["Discrete", "MultiDiscrete", "MultiBinary"])
def test_masked_actions_have_no_gradient(kind: str) -> None:
    sizes = {"Discrete": [5], "MultiDiscrete": [2, 5, 3], "MultiBinary": [2] * 4}[kind]
    th.manual_seed(0)
    policy = grown(StableMaskableMlpPolicy(VECTOR, ACTIONS[kind], lambda _: 1e-3, lean=True))
    masks = np.random.default_rng(0).random((32, sum(sizes))) < 0.5
    masks[:, np.cumsum([0, *sizes[:-1]])] = True
    masks[::4, -sizes[-1] :] = False  # nor has a part without a valid one, whose entropy is 0
    assert_learns_alike(policy, rows_of(policy, 32), action_masks=th.as_tensor(masks))


def test_the_gradient_of_what_is_not_asked_for_is_zero_and_frozen_weights_have_none() -> None:
    policy = policy_of(lean=True)
    policy.mlp_extractor.policy_net.fc1.weight.requires_grad_(False)
    policy.set_training_mode(True)
    obs = rows_of(policy, 8)
    values, _, _ = policy.evaluate_actions(obs, th.zeros(8))
    values.sum().backward()
    assert policy.mlp_extractor.policy_net.fc1.weight.grad is None
    assert not policy.action_net.weight.grad.any()
    assert policy.value_net.weight.grad.any()


# -- in training -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"norm": "batch"}, {"norm_input": "running", "norm_value": "running"}], ids=str
)
def test_a_run_acts_as_the_plain_one_does_and_learns_the_same_statistics(options: dict[str, Any]) -> None:
    models = []
    for word in (False, True):
        model = StablePPO(
            "StableMlpPolicy", make_cartpole(), n_steps=32, batch_size=16, n_epochs=2, seed=0,
            policy_kwargs={"lean": word, **options},
        )  # fmt: skip
        models.append(model.learn(64))
    plain, ours = (model.rollout_buffer for model in models)
    assert np.array_equal(plain.actions, ours.actions)
    np.testing.assert_allclose(plain.values, ours.values, rtol=1e-3, atol=1e-4)
    for (name, a), b in zip(models[0].policy.state_dict().items(), models[1].policy.state_dict().values(), strict=True):
        th.testing.assert_close(a, b, rtol=1e-2, atol=1e-3, msg=name)


def test_under_stock_ppo_and_under_ours_a_policy_learns_the_same_to_the_bit() -> None:
    options: dict[str, Any] = {"n_steps": 32, "batch_size": 16, "n_epochs": 2, "seed": 0}
    stock = PPO(StableMlpPolicy, make_cartpole(), policy_kwargs={"lean": True}, **options).learn(128)
    ours = StablePPO(StableMlpPolicy, make_cartpole(), policy_kwargs={"lean": True}, **options).learn(128)
    assert_same(stock.policy.state_dict(), ours.policy.state_dict(), "policy")


@pytest.mark.parametrize("algorithm", [A2C, MaskablePPO])
def test_other_algorithms_act_in_numpy_too(algorithm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = spied(monkeypatch)
    policy = StableMaskableMlpPolicy if algorithm is MaskablePPO else StableMlpPolicy
    masks = {"use_masking": False} if algorithm is MaskablePPO else {}
    model = algorithm(policy, make_cartpole(), n_steps=16, seed=0, policy_kwargs={"lean": True}).learn(64, **masks)
    assert all(seen)
    assert len(seen) >= 32
    model.predict(np.zeros(4, np.float32))
    assert len(seen) >= 33


def test_by_default_a_policy_has_nothing_of_it() -> None:
    assert policy_of()._lean_actor is None
    assert policy_of().lean is False


# -- weights that change -----------------------------------------------------------------------------------------------


def test_it_acts_on_the_weights_as_they_are_now() -> None:
    policy = policy_of(lean=True)
    obs = rows_of(policy)
    acted(policy, obs)
    with th.no_grad():
        policy.mlp_extractor.policy_net.fc1.weight.mul_(-2)
    assert_acts_alike(policy, obs)
    policy.load_state_dict(policy_of(init_gain=2.0).state_dict())
    assert_acts_alike(policy, obs)
    for parameter in policy.parameters():
        parameter.data = parameter.data + 0.1
    policy.set_training_mode(True)
    policy.set_training_mode(False)
    assert_acts_alike(policy, obs)
    policy.double().float()
    assert_acts_alike(policy, obs)


def test_weights_are_moved_together_once_and_stay_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Any] = []

    def counted(policy: Any) -> Any:
        built.append(policy)
        return networks_of(policy)

    monkeypatch.setattr(lean, "networks_of", counted)
    model = StablePPO(
        "StableMlpPolicy", make_cartpole(), n_steps=16, batch_size=8, seed=0, policy_kwargs={"lean": "auto"}
    )
    model.learn(64)
    assert built == [model.policy]
    first = [getattr(model.policy.mlp_extractor, name).fc1.weight for name in ("policy_net", "value_net")]
    assert first[1].data_ptr() == first[0].data_ptr() + 4 * first[0].numel()


def test_copies_and_saved_models_act_on_their_own_weights(tmp_path: Path) -> None:
    model = PPO(StableMlpPolicy, make_cartpole(), n_steps=16, batch_size=8, seed=0, policy_kwargs={"lean": "auto"})
    obs = rows_of(model.learn(32).policy)
    model.policy.set_training_mode(False)
    before = acted(model.policy, obs)
    twins = [copy.deepcopy(model.policy), pickle.loads(pickle.dumps(model.policy))]
    model.save(tmp_path / "model.zip")
    model.policy.save(str(tmp_path / "policy.pth"))
    twins += [PPO.load(tmp_path / "model.zip").policy, StableMlpPolicy.load(str(tmp_path / "policy.pth"))]
    with th.no_grad():
        model.policy.action_net.weight.add_(1)
    for twin in twins:
        twin.set_training_mode(False)
        assert twin.lean == "auto"
        for a, b in zip(before, acted(twin, obs), strict=True):
            assert th.equal(a, b)
