"""Small networks acting in NumPy: the same actions, values and probabilities as in torch, and when torch does it."""

import logging
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

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
from sb3_stable_ppo import (
    StableCnnPolicy,
    StableMaskableMlpPolicy,
    StableMlpPolicy,
    StablePPO,
    StableRecurrentMlpPolicy,
)
from sb3_stable_ppo.policies.lean import MAX_ROWS


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


@pytest.mark.parametrize("kind", ["Discrete", "MultiDiscrete", "MultiBinary"])
def test_a_part_without_a_valid_action_is_as_likely_as_in_torch(kind: str) -> None:
    sizes = {"Discrete": [5], "MultiDiscrete": [2, 5, 3], "MultiBinary": [2] * 4}[kind]
    policy = grown(StableMaskableMlpPolicy(VECTOR, ACTIONS[kind], lambda _: 1e-3, lean=True))
    masks = np.ones((6, sum(sizes)), bool)
    masks[::2, -sizes[-1] :] = False
    assert_acts_alike(policy, rows_of(policy), action_masks=masks)


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
