"""Another minibatch than the one that ``train()`` has drawn."""

from typing import Any

import numpy as np
from sb3_contrib import RecurrentPPO
from stable_baselines3 import SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from helpers.envs import make_cartpole
from helpers.interventions import MINIBATCHES, OFF, net
from sb3_stable_ppo.interventions.minibatches import another_minibatch


def test_a_replayed_minibatch_is_normalised_as_the_algorithm_normalises_its_own() -> None:
    env = VecNormalize(make_vec_env("Pendulum-v1", n_envs=2, seed=0))
    model = SAC("MlpPolicy", env, **OFF, **net()).learn(40)
    (observations, actions), mask = another_minibatch(model, np.random.default_rng(0))
    buffer: Any = model.replay_buffer
    assert mask is None
    assert observations.shape == (16, 3)
    stored = env.normalize_obs(buffer.observations[:20].reshape(-1, 3))
    for observation, action in zip(observations.numpy(), actions.numpy(), strict=True):
        (row,) = np.flatnonzero((np.abs(stored - observation) < 1e-6).all(axis=1))
        assert buffer.actions[:20].reshape(-1, 1)[row] == action


def test_rows_of_sequences_follow_each_other_and_padding_is_none_of_them() -> None:
    model: Any = RecurrentPPO("MlpLstmPolicy", make_cartpole(2), **MINIBATCHES, **net()).learn(64)
    (observations, states, starts), mask = another_minibatch(model, np.random.default_rng(1))
    assert mask is not None
    assert int(mask.sum()) == 16
    stored = model.rollout_buffer.observations.reshape(-1, 4)
    first = np.random.default_rng(1).integers(64)
    assert np.array_equal(observations[mask].numpy(), stored[(first + np.arange(16)) % 64])
    assert len(starts) == len(mask)
    assert len(mask) % states[0].shape[1] == 0  # as many rows for each sequence
