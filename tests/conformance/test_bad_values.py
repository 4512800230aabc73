"""Each algorithm survives rewards, observations, log probabilities and gradients that are not finite."""

import math
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

from helpers.conformance import ALL, PAIRS, SMALL, Task, build, is_finite, make, policy_of
from helpers.guard_callback import Sensor
from helpers.guarded import Corrupt, Logged
from sb3_stable_ppo import (
    CollapseError,
    StablePPO,
    StableRecurrentPPO,
)


@ALL
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_nonfinite_old_log_prob_is_survived_and_counted(algorithm: Any, broken: float) -> None:
    log = Logged()
    model = build(algorithm, n_epochs=1).learn(32, callback=[Corrupt(log_probs=((3, 1), broken)), log])
    assert is_finite(model)
    assert log.updates[0]["guards/nonfinite_log_ratios"] == 1


class BadReward(gym.Wrapper[Any, Any, Any, Any]):
    def step(self, action: Any) -> Any:
        observation, reward, *rest = self.env.step(action)
        return observation, math.nan if self.env.unwrapped.clock == 5 else reward, *rest

    def action_masks(self) -> np.ndarray:
        return self.env.unwrapped.action_masks()


@ALL
def test_a_nan_reward_becomes_zero_before_gae(algorithm: Any) -> None:
    class Seen(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_rollout_end(self) -> None:
            buffer = self.model.rollout_buffer
            assert np.isfinite(buffer.advantages).all()
            assert buffer.rewards[4].tolist() == [0.0, 0.0]

    log = Logged()
    env = make_vec_env(lambda: BadReward(Task()), 2, seed=0)
    with pytest.warns(UserWarning, match="rewards at step 10: 2 of 2 are not finite and become 0"):
        model = build(algorithm, env).learn(32, callback=[Seen(), log])
    assert is_finite(model)
    assert log.updates[0]["guards/nonfinite_rewards"] == 2


@ALL
def test_a_poisoned_gradient_leaves_weights_and_moments_unchanged(algorithm: Any) -> None:
    model = build(algorithm, n_epochs=1).learn(32)
    before = {name: tensor.clone() for name, tensor in model.policy.state_dict().items()}
    moments = [{k: v.clone() for k, v in s.items()} for s in model.policy.optimizer.state_dict()["state"].values()]
    handle = model.policy.value_net.weight.register_hook(lambda gradient: gradient * math.nan)
    log = Logged()
    with pytest.warns(UserWarning, match=r"gradient of .*: \d+ of \d+ values are not finite"):
        model.learn(32, callback=log, reset_num_timesteps=False)
    handle.remove()
    assert all(th.equal(tensor, before[name]) for name, tensor in model.policy.state_dict().items())
    after = model.policy.optimizer.state_dict()["state"].values()
    assert all(th.equal(old[k], new[k]) for old, new in zip(moments, after, strict=True) for k in old)
    assert log.updates[0]["guards/skipped_steps"] == 4
    assert model._undone_updates == 0


@ALL
def test_a_nonfinite_observation_raises_and_names_env_field_and_step(algorithm: Any) -> None:
    with pytest.raises(CollapseError, match=r"observation of env 0 at step 8: 1 of 3 values are not finite"):
        build(algorithm, make(bad_obs_at=4)).learn(64)


@ALL
def test_a_nonfinite_observation_is_repeated_where_asked_for(algorithm: Any) -> None:
    class Seen(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_rollout_end(self) -> None:
            observations = self.model.rollout_buffer.observations
            assert np.isfinite(observations).all()
            assert np.array_equal(observations[4], observations[3])

    log = Logged()
    model = build(algorithm, make(bad_obs_at=4), guards={"on_nonfinite_obs": "repeat_last"})
    model.learn(32, callback=[Seen(), log])
    assert is_finite(model)
    assert log.updates[0]["guards/nonfinite_observations"] == 2


def test_a_nonfinite_terminal_observation_is_found_too() -> None:
    class Truncated(Task):
        def step(self, action: Any) -> Any:
            observation, reward, done, _, info = super().step(action)
            return (np.full(3, math.nan, np.float32) if done else observation), reward, False, done, info

    env = make_vec_env(Truncated, 2, seed=0)
    with pytest.raises(CollapseError, match="3 of 3 values are not finite"):
        build(StablePPO, env).learn(32)
    log = Logged()
    repeat = {"on_nonfinite_obs": "repeat_last"}
    model = build(StablePPO, make_vec_env(Truncated, 2, seed=0), guards=repeat).learn(32, callback=log)
    assert log.updates[0]["guards/nonfinite_rewards"] == 0
    assert is_finite(model)


def sensor(**faults: Any) -> VecFrameStack:
    """VecNormalize within another wrapper."""
    return VecFrameStack(VecNormalize(DummyVecEnv([lambda: Sensor(True, **faults)])), 2)


def assert_given_back(env: Any) -> None:
    while env is not None:
        assert "step_wait" not in env.__dict__
        env = getattr(env, "venv", None)


@pytest.mark.parametrize("algorithm", [StablePPO, StableRecurrentPPO])  # which need no masks
def test_what_the_env_gives_is_mended_before_a_normaliser_takes_it_in(algorithm: Any) -> None:
    """Step 30 ends an episode: its observation is the terminal one."""
    log, env = Logged(), sensor(nan_at=(5, 30, 41), inf_at=(7, 42))
    with pytest.warns(UserWarning, match="rewards at step 7|observation of env 0 at step 5: 1 of 3"):
        model = build(algorithm, env, guards={"on_nonfinite_obs": "repeat_last"}).learn(48, callback=log)
    assert [update["guards/nonfinite_observations"] for update in log.updates] == [1, 1, 1]
    assert [update["guards/nonfinite_rewards"] for update in log.updates] == [1, 0, 1]
    assert is_finite(model)
    assert np.isfinite(env.venv.obs_rms.mean).all()  # type: ignore[attr-defined]
    assert np.isfinite(env.venv.ret_rms.var)  # type: ignore[attr-defined]
    assert_given_back(env)


def test_a_bad_observation_below_a_normaliser_is_named_and_leaves_the_normaliser_as_it_was() -> None:
    env = sensor(nan_at=(5,))
    with pytest.raises(CollapseError, match=r"env 0 at step 5: 1 of 3 .* set guards=\{'on_nonfinite_obs': 'repeat_"):
        build(StablePPO, env).learn(16)
    assert np.isfinite(env.venv.obs_rms.mean).all()  # type: ignore[attr-defined]
    assert_given_back(env)


@ALL
def test_a_minibatch_of_one_sample_is_survived(algorithm: Any) -> None:
    """sb3-contrib divides by the standard deviation of one value: NaN weights with stock."""
    options = {"n_steps": 17, "batch_size": 16, "n_epochs": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = build(algorithm, make(n_envs=1), **options).learn(34)
    assert is_finite(model)
    assert model._undone_updates == 0
    if algorithm is not StablePPO:
        stock = PAIRS[algorithm](policy_of(algorithm), make(n_envs=1), **{**SMALL, **options})
        with pytest.raises(ValueError, match="invalid values"):
            stock.learn(34)
