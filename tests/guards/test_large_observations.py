"""Observations that are finite, and too large for networks that compute in float32."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_stable_ppo import CollapseError, GuardCallback, StablePPO
from sb3_stable_ppo.guards.checked_env import LARGEST, CheckedVecEnv, seems_finite

REPEAT = {"on_nonfinite_obs": "repeat_last"}


class Spiking(gym.Env[Any, Any]):
    """One large value, once."""

    def __init__(self, spike: float, dtype: Any, at: int = 20) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,), dtype)
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)
        self.spike, self.at, self.steps = spike, at, 0

    def _observation(self) -> Any:
        found = np.sin(np.arange(3) + self.steps).astype(self.observation_space.dtype)
        if self.steps == self.at:
            found[1] = self.spike
        return found

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return self._observation(), 1.0, self.steps % 50 == 0, False, {}


def make(spike: float, dtype: Any = np.float64) -> DummyVecEnv:
    return DummyVecEnv([lambda: Spiking(spike, dtype)])


def learnt(env: Any, **options: Any) -> StablePPO:
    return StablePPO("StableMlpPolicy", env, n_steps=32, batch_size=32, n_epochs=1, seed=0, **options).learn(64)


@pytest.mark.parametrize("spike", [1e39, -1e200])
def test_a_number_too_large_for_float32_is_named(spike: float) -> None:
    expected = r"observation of env 0 at step 20: 1 of 3 values are not finite in float32, in which networks compute\."
    with pytest.raises(CollapseError, match=expected):
        learnt(make(spike))


def test_the_observation_before_is_repeated_where_asked_for_and_no_normaliser_takes_the_large_one_in() -> None:
    env = VecNormalize(make(1e200))
    with pytest.warns(UserWarning, match="not finite in float32"):
        model = learnt(env, guards=REPEAT)
    assert np.abs(env.obs_rms.mean).max() < 2  # type: ignore[union-attr]
    assert all(bool(weight.isfinite().all()) for weight in model.policy.parameters())


def test_the_guard_callback_keeps_it_from_a_replay_buffer() -> None:
    model = SAC("MlpPolicy", make(1e39), learning_starts=10, buffer_size=100, batch_size=16, seed=0)
    with pytest.warns(UserWarning, match="not finite in float32"):
        model.learn(40, callback=GuardCallback(on_nonfinite_obs="repeat_last"))
    assert np.abs(model.replay_buffer.observations).max() <= 1  # type: ignore[union-attr]


@pytest.mark.parametrize("spike", [1e25, float(np.finfo(np.float32).max)])
def test_a_policy_that_cannot_act_on_what_float32_can_hold_says_on_what(spike: float) -> None:
    """The variance of a LayerNorm is infinite: torch names a tensor, and no env."""
    with pytest.raises(CollapseError, match=r"cannot act at step 20: .*The weights are finite\. The largest") as raised:
        learnt(make(spike, np.float32))
    assert f"{spike:.3g}, in observation of env 0." in str(raised.value)


def test_a_policy_that_cannot_act_since_a_buffer_of_it_is_broken_says_which() -> None:
    model = StablePPO("StableMlpPolicy", make(0.0), policy_kwargs={"norm": "batch"}, n_steps=32, batch_size=32, seed=0)
    name, buffer = next((n, b) for n, b in model.policy.named_buffers() if n.endswith("running_var"))
    model.learn(32)
    buffer[0] = np.nan
    with pytest.raises(CollapseError, match=rf"cannot act .*The cause is the network itself \({name}: 1 of \d+ values"):
        model.learn(32)


def test_a_policy_that_cannot_act_since_its_weights_are_too_large_says_which() -> None:
    model = StablePPO("MlpPolicy", make(0.0), n_steps=32, batch_size=32, seed=0)
    model.policy.action_net.weight.data.fill_(3e38)
    with pytest.raises(
        CollapseError, match=r"action_net.weight reaches 3e\+38. Load a model .* lower the learning rate"
    ):
        model.learn(32)


class Divides(FlattenExtractor):
    """By zero."""

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return super().forward(observations) / th.zeros(1)


def test_a_layer_that_makes_nan_of_healthy_numbers_is_looked_for_in_the_network() -> None:
    options: dict[str, Any] = {"policy_kwargs": {"features_extractor_class": Divides}}
    model = StablePPO("MlpPolicy", make(0.0), n_steps=32, batch_size=32, seed=0, **options)
    with pytest.raises(CollapseError, match=r"The weights are finite, and reach .* in .* So it is a step within the"):
        model.learn(32)


def test_a_reward_too_large_for_float32_becomes_0_like_one_that_is_not_finite() -> None:
    env = make(0.0)
    told: list[str] = []
    checked = CheckedVecEnv(env, lambda _, text: told.append(text))
    checked.begin("raise", 0, env.reset())
    _, rewards, *_ = checked.check(env.reset(), np.array([1e39]), np.zeros(1, bool), [{}])
    assert rewards.tolist() == [0.0]
    assert checked.bad_rewards.tolist() == [1]
    assert "1 of 1 are not finite and become 0" in told[0]


def test_infinity_in_float16_is_found() -> None:
    with pytest.raises(CollapseError, match="observation of env 0 at step 20: 1 of 3 values are not finite"):
        learnt(make(np.inf, np.float16))


def test_a_policy_that_cannot_act_since_its_weights_are_broken_says_which() -> None:
    model = StablePPO("StableMlpPolicy", make(0.0), n_steps=32, batch_size=32, seed=0)
    next(model.policy.action_net.parameters()).data[0, 0] = np.nan
    with pytest.raises(CollapseError, match=r"cannot act at step 0: .*action_net.weight: 1 of \d+ values"):
        model.learn(32)


class BreaksWeights(BaseCallback):
    """When a rollout has ended: the policy has acted, and the guards are about to read it."""

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.model.policy.action_net.weight.data[0, 0] = np.nan


def test_weights_that_a_callback_breaks_before_the_update_are_named_and_callbacks_pointed_at() -> None:
    model = StablePPO("MlpPolicy", make(0.0), n_steps=32, batch_size=32, seed=0)
    with pytest.raises(CollapseError, match=r"step 32: .*action_net.weight: 1 of \d+ values.* look at the callbacks"):
        model.learn(32, callback=BreaksWeights())


@pytest.mark.parametrize("size", [3, 1000])
def test_no_number_of_float64_that_is_too_large_passes_the_quick_look(size: int) -> None:
    """Nor two that cancel each other in a sum."""
    observations = np.zeros((1, size))
    assert seems_finite(observations + 1e30)
    for pair in ((2 * LARGEST, -2 * LARGEST), (1e300, -1e300), (np.nan, 0.0), (np.inf, 0.0)):
        observations[0, :2] = pair
        assert not seems_finite(observations)
