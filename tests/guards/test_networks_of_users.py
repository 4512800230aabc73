"""Networks that stock PPO trains, and that are built in another way than SB3's: the guards read them, or do without."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import pytest
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.distributions import CategoricalDistribution, Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor
from torch import nn
from torch.distributions import Categorical, MixtureSameFamily, Normal

from helpers.envs import make_cartpole
from helpers.weights import assert_same_weights
from sb3_stable_ppo import GuardCallback, StablePPO

SMALL: dict[str, Any] = {"n_steps": 16, "batch_size": 8, "n_epochs": 2, "seed": 0}
DROPPED = {"max_kl": 1e-9, "max_retries": 0}


class Experts(BaseFeaturesExtractor):
    """A gate sends each observation to one of two experts. With ``skips`` one that has nothing to do is not called."""

    def __init__(self, observation_space: gym.Space[Any], skips: bool) -> None:
        super().__init__(observation_space, 16)
        self.skips, self.gate = skips, nn.Linear(4, 2)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(4, 16), nn.ReLU()) for _ in range(2))

    def forward(self, observations: th.Tensor) -> th.Tensor:
        shares = self.gate(observations).softmax(1)
        chosen, features = shares.argmax(1), observations.new_zeros(len(observations), 16)
        for index, expert in enumerate(self.experts):
            rows = chosen == index
            if not self.skips or rows.any():
                features[rows] = expert(observations[rows]) * shares[rows, index : index + 1]
        return features


@pytest.mark.parametrize("skips", [True, False])
def test_experts_that_a_gate_leaves_idle_are_guarded_and_trained_as_stock_would(skips: bool) -> None:
    options = {"policy_kwargs": {"features_extractor_class": Experts, "features_extractor_kwargs": {"skips": skips}}}
    stock, ours = (
        algorithm("MlpPolicy", make_cartpole(), learning_rate=3e-3, **options, **SMALL).learn(640)
        for algorithm in (PPO, StablePPO)
    )
    assert_same_weights(stock, ours)
    assert ours._undone_updates == 0


class OfItsOwn(ActorCriticPolicy):
    """Its distribution is made anew, and ``action_dist`` stays as SB3 made it."""

    def _get_action_dist_from_latent(self, latent_pi: th.Tensor) -> Distribution:
        return CategoricalDistribution(int(self.action_space.n)).proba_distribution(self.action_net(latent_pi))


class MixtureDistribution(CategoricalDistribution):
    """Two Gaussians, without a KL divergence in closed form."""

    def proba_distribution(self, action_logits: th.Tensor) -> MixtureDistribution:
        mean = action_logits.unsqueeze(-1) + th.tensor([-0.5, 0.5])
        mixed = MixtureSameFamily(Categorical(th.ones_like(mean)), Normal(mean, 0.5))
        self.distribution = mixed  # type: ignore[assignment]
        return self

    def log_prob(self, actions: th.Tensor) -> th.Tensor:
        return self.distribution.log_prob(actions).sum(-1)

    def entropy(self) -> None:  # type: ignore[override]
        return None

    def mode(self) -> th.Tensor:
        return self.distribution.mean


class OfAMixture(ActorCriticPolicy):
    """Of continuous actions."""

    def _get_action_dist_from_latent(self, latent_pi: th.Tensor) -> Distribution:
        return MixtureDistribution(1).proba_distribution(self.action_net(latent_pi))


class Wordless(MixtureDistribution):
    """Keeps what it draws from under a name of its own."""

    def proba_distribution(self, action_logits: th.Tensor) -> Wordless:
        super().proba_distribution(action_logits)
        self._own = self.__dict__.pop("distribution")
        return self

    def log_prob(self, actions: th.Tensor) -> th.Tensor:
        return self._own.log_prob(actions).sum(-1)

    def sample(self) -> th.Tensor:
        return self._own.sample()


class OfAWordless(ActorCriticPolicy):
    """Of a distribution that nobody else can look into."""

    def _get_action_dist_from_latent(self, latent_pi: th.Tensor) -> Distribution:
        return Wordless(1).proba_distribution(self.action_net(latent_pi))


@pytest.mark.parametrize(
    ("policy", "env"), [(OfItsOwn, "CartPole-v1"), (OfAMixture, "Pendulum-v1"), (OfAWordless, "Pendulum-v1")]
)
def test_a_distribution_of_the_users_is_read_or_the_kl_is_estimated_from_the_actions(policy: Any, env: str) -> None:
    stock, ours = (algorithm(policy, env, **SMALL).learn(32) for algorithm in (PPO, StablePPO))
    assert_same_weights(stock, ours)
    assert 0 < ours.logger.name_to_value["guards/update_kl"] < 1
    with pytest.warns(UserWarning, match="it moved the policy by a KL of"):
        dropped = StablePPO(policy, env, guards=DROPPED, **SMALL).learn(16)
    assert dropped._dropped_updates == 1


def test_the_estimate_from_actions_is_near_the_kl_in_closed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    def kl() -> float:
        model = StablePPO("MlpPolicy", "Pendulum-v1", n_steps=1024, n_epochs=2, seed=0, guards={"probe_rows": 1024})
        return float(model.learn(1024).logger.name_to_value["guards/update_kl"])

    exact = kl()
    monkeypatch.setattr("sb3_stable_ppo.guards.reading.parts_of", lambda _: [])
    assert kl() == pytest.approx(exact, rel=0.3)


class WithState(FlattenExtractor):
    """State that torch keeps beside tensors, and a buffer that is not saved; both change while it trains."""

    def __init__(self, observation_space: Any) -> None:
        super().__init__(observation_space)
        self.calls = 0
        self.register_buffer("mean", th.zeros(4), persistent=False)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        if self.training:
            self.calls += 1
            self.mean += observations.mean(0)
        return super().forward(observations)

    def get_extra_state(self) -> dict[str, int]:
        return {"calls": self.calls}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.calls = state["calls"]


def test_an_update_that_is_dropped_leaves_extra_state_and_unsaved_buffers_as_they_were() -> None:
    options = {"policy_kwargs": {"features_extractor_class": WithState}}
    with pytest.warns(UserWarning, match="was undone"):
        model = StablePPO("MlpPolicy", make_cartpole(), guards=DROPPED, **options, **SMALL).learn(16)
    assert model._dropped_updates == 1
    extractor = model.policy.features_extractor
    assert extractor.calls == 0
    assert th.equal(extractor.mean, th.zeros(4))
    kept = StablePPO("MlpPolicy", make_cartpole(), **options, **SMALL).learn(16).policy.features_extractor
    assert kept.calls == 8
    assert bool(kept.mean.any())


class WithCaches(FlattenExtractor):
    """Buffers that are not saved: one is as large as the batch, one appears in training and is infinite."""

    def __init__(self, observation_space: Any) -> None:
        super().__init__(observation_space)
        self.register_buffer("rows", th.zeros(1, 1), persistent=False)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        self.rows = observations[:, :1].detach().clone()
        if self.training:
            self.register_buffer("mask", th.full((2,), -th.inf), persistent=False)
        return super().forward(observations)


def test_buffers_that_appear_or_change_their_shape_in_an_update_are_no_reason_to_fail() -> None:
    options = {"policy_kwargs": {"features_extractor_class": WithCaches}}
    kept = StablePPO("MlpPolicy", make_cartpole(), **options, **SMALL).learn(64)
    assert kept._undone_updates == 0
    with pytest.warns(UserWarning, match="was undone"):
        model = StablePPO("MlpPolicy", make_cartpole(), guards=DROPPED, **options, **SMALL).learn(64)
    assert model._dropped_updates == 2


def break_weights_in_each_update(model: PPO) -> None:
    def break_weights(gradient: th.Tensor) -> th.Tensor:
        model.policy.action_net.weight.data.fill_(th.nan)
        return gradient

    model.policy.value_net.weight.register_hook(break_weights)


def test_guard_callback_restores_extra_state_with_the_weights() -> None:
    options = {"policy_kwargs": {"features_extractor_class": WithState}, "batch_size": 32, "n_epochs": 1}
    model = PPO("MlpPolicy", make_cartpole(), **{**SMALL, **options})
    break_weights_in_each_update(model)
    guard = GuardCallback()
    with pytest.warns(UserWarning, match="The last good weights are restored"):
        model.learn(16, callback=guard)
    assert guard.restored == 1
    assert model.policy.features_extractor.calls == 0
    assert th.equal(model.policy.features_extractor.mean, th.zeros(4))


def test_guard_callback_takes_buffers_that_appear_or_change_their_shape_as_they_are() -> None:
    options = {"policy_kwargs": {"features_extractor_class": WithCaches}, "batch_size": 32, "n_epochs": 1}
    guard = GuardCallback(check_every=1)
    model = PPO("MlpPolicy", make_cartpole(), **{**SMALL, **options}).learn(64, callback=guard)
    assert guard.restored == 0
    break_weights_in_each_update(model)
    with pytest.warns(UserWarning, match="The last good weights are restored"):
        model.learn(16, callback=guard)
    assert guard.restored == 1
