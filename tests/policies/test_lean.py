"""Small networks acting in NumPy: the same actions, values and probabilities as in torch, and when torch does it."""

import copy
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib import MaskablePPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

from helpers.envs import make_cartpole
from helpers.weights import assert_same
from sb3_stable_ppo import (
    StableCnnPolicy,
    StableMaskableMlpPolicy,
    StableMlpPolicy,
    StableMultiInputPolicy,
    StablePPO,
    StableRecurrentMlpPolicy,
)
from sb3_stable_ppo.policies import lean
from sb3_stable_ppo.policies.lean import MAX_ROWS, LeanActor
from sb3_stable_ppo.policies.lean_networks import networks_of

VECTOR = spaces.Box(-1, 1, (4,))
ACTIONS: dict[str, spaces.Space[Any]] = {
    "Discrete": spaces.Discrete(5),
    "Box": spaces.Box(-1, 1, (3,)),
    "Box of a matrix": spaces.Box(-1, 1, (2, 3)),
    "MultiDiscrete": spaces.MultiDiscrete([2, 5, 3]),
    "MultiBinary": spaces.MultiBinary(4),
}
OBSERVATIONS: dict[str, spaces.Space[Any]] = {
    "Box": VECTOR,
    "Box of a matrix": spaces.Box(-1, 1, (3, 2)),
    "Box of doubles": spaces.Box(-1, 1, (4,), np.float64),
    "Discrete": spaces.Discrete(7),
    "MultiDiscrete": spaces.MultiDiscrete([3, 4]),
    "MultiBinary": spaces.MultiBinary(6),
    "Dict": spaces.Dict({"speed": spaces.Box(-1, 1, (2,)), "gear": spaces.Discrete(3)}),
}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"norm": "batch"},
    {"norm": "none", "activation": "tanh", "net_arch": [32]},
    {"activation": "elu", "norm_position": "after"},
    {"activation": "silu", "net_arch": {"pi": [16, 8, 4], "vf": []}},
    {"activation": "relu", "norm_input": "running", "norm_value": "running"},
    {"norm_input": "running", "share_features_extractor": False},
    {"norm_statistics": "batch", "norm": "batch"},
]


def policy_of(
    observations: spaces.Space[Any] = VECTOR, actions: spaces.Space[Any] = ACTIONS["Discrete"], **options: Any
) -> Any:
    """One whose outputs differ from row to row, past its first rollout."""
    cls = StableMultiInputPolicy if isinstance(observations, spaces.Dict) else StableMlpPolicy
    th.manual_seed(0)
    policy = cls(observations, actions, lambda _: 1e-3, **options)
    return grown(policy)


def grown(policy: Any) -> Any:
    """Weights, biases and statistics away from where they are born."""
    generator = th.Generator().manual_seed(1)
    with th.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.3 * th.randn(parameter.shape, generator=generator))
        for name, buffer in policy.named_buffers():
            if name.endswith(("running_mean", "return_mean")):
                buffer.copy_(th.randn(buffer.shape, generator=generator))
            elif name.endswith(("running_var", "return_var")):
                buffer.copy_(th.rand(buffer.shape, generator=generator) + 0.5)
    policy.set_training_mode(True)  # an update has begun, so the statistics stand
    policy.set_training_mode(False)
    return policy


def rows_of(policy: Any, count: int = 6) -> Any:
    """Observations as tensors, as the policy gets them."""
    space = policy.observation_space
    space.seed(3)
    samples = [space.sample() for _ in range(count)]
    if isinstance(space, spaces.Dict):
        return policy.obs_to_tensor({key: np.stack([sample[key] for sample in samples]) for key in space.spaces})[0]
    return policy.obs_to_tensor(np.stack(samples))[0]


def acted(policy: Any, obs: Any, seed: int = 7, **options: Any) -> tuple[th.Tensor, ...]:
    th.manual_seed(seed)
    with th.no_grad():
        actions, values, log_prob = policy(obs, **options)
    return actions, values, log_prob


def plain_of(policy: Any) -> Any:
    """The same policy as torch computes it."""
    found = copy.deepcopy(policy)
    found._lean_actor = None
    return found


def spied(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each call, whether NumPy acted."""
    seen: list[bool] = []
    before: Callable[..., bool] = LeanActor.is_ready_for

    def look(self: LeanActor, obs: Any, learning: bool = False) -> bool:
        seen.append(before(self, obs, learning))
        return seen[-1]

    monkeypatch.setattr(LeanActor, "is_ready_for", look)
    return seen


def assert_acts_alike(policy: Any, obs: Any, **options: Any) -> None:
    plain = plain_of(policy)
    for deterministic in (False, True):
        theirs, ours = (acted(one, obs, deterministic=deterministic, **options) for one in (plain, policy))
        for a, b in zip(theirs, ours, strict=True):
            assert a.shape == b.shape
            assert a.dtype == b.dtype
            th.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
        with th.no_grad():
            th.manual_seed(7)
            expected = plain._predict(obs, deterministic=deterministic, **options)
            th.manual_seed(7)
            found = policy._predict(obs, deterministic=deterministic, **options)
        assert expected.dtype == found.dtype
        th.testing.assert_close(expected, found.reshape(expected.shape), rtol=1e-4, atol=1e-5)


# -- the same as torch -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 6])
@pytest.mark.parametrize("actions", ACTIONS.values(), ids=ACTIONS)
def test_actions_values_and_probabilities_are_torchs_for_the_same_seed(
    actions: spaces.Space[Any], rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = policy_of(actions=actions, lean=True)
    seen = spied(monkeypatch)
    assert_acts_alike(policy, rows_of(policy, rows))
    assert seen == [True] * 4


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_norm_and_activation_is_what_it_is_in_torch(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = policy_of(lean=True, **options)
    seen = spied(monkeypatch)
    acted(policy, rows_of(policy))  # the first step of a rollout is gathered where there are running norms
    assert_acts_alike(policy, rows_of(policy))
    assert seen[-4:].count(True) >= 2


@pytest.mark.parametrize("observations", OBSERVATIONS.values(), ids=OBSERVATIONS)
def test_every_kind_of_vector_is_taken(observations: spaces.Space[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    policy = policy_of(observations, lean=True)
    seen = spied(monkeypatch)
    assert_acts_alike(policy, rows_of(policy))
    assert seen == [True] * 4


@pytest.mark.parametrize("kind", ["Discrete", "MultiDiscrete", "MultiBinary"])
def test_masked_actions_are_never_drawn_and_the_others_as_in_torch(kind: str) -> None:
    space: Any = ACTIONS[kind]
    th.manual_seed(0)
    policy = grown(StableMaskableMlpPolicy(VECTOR, space, lambda _: 1e-3, lean=True))
    sizes = {"Discrete": [5], "MultiDiscrete": [2, 5, 3], "MultiBinary": [2] * 4}[kind]
    masks = np.random.default_rng(0).random((6, sum(sizes))) < 0.5
    masks[:, np.cumsum([0, *sizes[:-1]])] = True  # one of each is always valid
    obs = rows_of(policy)
    assert_acts_alike(policy, obs, action_masks=masks)
    ends = np.cumsum([0, *sizes])
    for seed in range(20):
        drawn = acted(policy, obs, seed, action_masks=masks)[0].reshape(6, -1).numpy().astype(int)
        for column, start in enumerate(ends[:-1]):
            assert masks[np.arange(6), start + drawn[:, column]].all()


def test_the_shares_of_drawn_actions_are_their_probabilities() -> None:
    policy = policy_of(lean=True)
    obs = rows_of(policy, 1)
    rows = obs.repeat(MAX_ROWS, 1)
    th.manual_seed(0)
    with th.no_grad():
        probabilities = policy.get_distribution(obs).distribution.probs[0].numpy()
        drawn = np.concatenate([policy(rows)[0].numpy() for _ in range(100)])
    counts = np.bincount(drawn, minlength=5)
    expected = probabilities * len(drawn)
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 18.5, "the 0.1% quantile with four degrees of freedom"


def test_gaussian_actions_have_the_mean_and_the_deviation_of_the_policy() -> None:
    policy = policy_of(actions=ACTIONS["Box"], lean=True)
    rows = rows_of(policy, 1).repeat(MAX_ROWS, 1)
    th.manual_seed(0)
    with th.no_grad():
        mean, std = policy(rows, deterministic=True)[0][0], policy.log_std.exp()
        drawn = th.cat([policy(rows)[0] for _ in range(100)])
    error = std / len(drawn) ** 0.5
    assert ((drawn.mean(0) - mean).abs() < 4 * error).all()
    assert ((drawn.std(0) / std - 1).abs() < 0.03).all()


# -- gradients ---------------------------------------------------------------------------------------------------------


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


# -- when torch does it ------------------------------------------------------------------------------------------------


def test_a_hook_is_called_at_every_step() -> None:
    policy, calls = policy_of(lean=True), []
    obs = rows_of(policy)
    acted(policy, obs)
    handle = policy.mlp_extractor.policy_net.fc2.register_forward_hook(lambda *_: calls.append(1))
    acted(policy, obs)
    assert len(calls) == 1
    handle.remove()
    acted(policy, obs)
    assert len(calls) == 1


def test_with_gradients_and_for_many_rows_torch_acts() -> None:
    policy = policy_of(lean=True)
    assert policy(rows_of(policy))[1].requires_grad
    many = rows_of(policy, MAX_ROWS + 1)
    assert not policy._lean_actor.is_ready_for(many)
    assert acted(policy, many)[0].shape == (MAX_ROWS + 1,)


@pytest.mark.parametrize("kind", ["Discrete", "Box", "MultiDiscrete"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_ends_as_in_torch(kind: str, value: float) -> None:
    policy = policy_of(actions=ACTIONS[kind], lean=True)
    obs = rows_of(policy)
    acted(policy, obs)
    with th.no_grad():
        policy.action_net.bias[0] = value
    results = []
    for one in (plain_of(policy), policy):
        try:
            results.append([str(part) for part in acted(one, obs)])
        except (ValueError, RuntimeError) as error:
            results.append([type(error).__name__, str(error)])
    assert results[0] == results[1]


class OfTheirOwn(FlattenExtractor):
    """An extractor of a user's."""


class Louder(StableMlpPolicy):
    """A policy of a user's, whose distribution is another."""

    def _get_action_dist_from_latent(self, latent_pi: th.Tensor) -> Any:
        return super()._get_action_dist_from_latent(2 * latent_pi)


IMAGE = spaces.Box(0, 255, (3, 40, 40), np.uint8)
CANNOT: list[tuple[str, Callable[..., Any], str]] = [
    (
        "gSDE",
        lambda **options: StableMlpPolicy(VECTOR, ACTIONS["Box"], lambda _: 1e-3, use_sde=True, **options),
        "gSDE draws its noise in torch",
    ),
    (
        "LSTM",
        lambda **options: StableRecurrentMlpPolicy(VECTOR, ACTIONS["Discrete"], lambda _: 1e-3, **options),
        "an LSTM has no NumPy form",
    ),
    (
        "extractor",
        lambda **options: policy_of(features_extractor_class=OfTheirOwn, **options),
        "OfTheirOwn is an extractor that only torch runs",
    ),
    (
        "images",
        lambda **options: StableCnnPolicy(IMAGE, ACTIONS["Discrete"], lambda _: 1e-3, **options),
        "StableCNN is an extractor that only torch runs",
    ),
    (
        "images in a Dict",
        lambda **options: policy_of(spaces.Dict({"camera": IMAGE}), **options),
        "StableCombinedExtractor has images",
    ),
    ("activation", lambda **options: policy_of(activation=nn.Mish, **options), "Mish has no NumPy form"),
    (
        "method",
        lambda **options: Louder(VECTOR, ACTIONS["Discrete"], lambda _: 1e-3, **options),
        "Louder has a method _get_action_dist_from_latent of its own",
    ),
]


@pytest.mark.parametrize(("make", "why"), [case[1:] for case in CANNOT], ids=[case[0] for case in CANNOT])
def test_what_cannot_act_in_numpy_says_so_once_with_auto_and_is_an_error_by_name(
    make: Callable[..., Any], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sb3_stable_ppo.fast")
    policy = make(lean="auto")
    policy.set_training_mode(False)
    obs = policy.observation_space.sample()
    for _ in range(3):
        policy.predict(obs)
    assert [record.getMessage() for record in caplog.records] == [f"lean: auto acts as SB3 does: {why}"]
    with pytest.raises(ValueError, match="lean: true cannot be done here: ") as error:
        make(lean=True).predict(obs)
    assert str(error.value) == f"lean: true cannot be done here: {why}. Choose false or auto."


def test_an_unknown_word_lists_the_choices() -> None:
    with pytest.raises(ValueError, match="Unknown lean 'yes': choose one of true, false, auto"):
        policy_of(lean="yes")


def test_an_environment_with_float64_observations_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = spied(monkeypatch)
    model = StablePPO("StableMlpPolicy", gym.make("Pendulum-v1"), n_steps=32, batch_size=16, n_epochs=1,
                      policy_kwargs={"lean": True}, seed=0).learn(64)  # fmt: skip
    assert seen.count(True) == 64 + 2 * 2, "each step and each minibatch"
    assert model.rollout_buffer.actions.shape == (32, 1)
