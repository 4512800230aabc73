"""The first rollout calibrates the statistics of BatchNorm, and nothing else does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from helpers.envs import make_cartpole, make_pong
from sb3_stable_ppo import StableMlpPolicy, StablePongPolicy
from sb3_stable_ppo.policies.calibration import norms_with_statistics

pytestmark = pytest.mark.slow(seconds=1)


def pong_policy() -> Any:
    th.manual_seed(0)
    return StablePongPolicy(spaces.Box(0, 255, (4, 84, 84), np.uint8), spaces.Discrete(6), lambda _: 1e-4)


def test_the_first_rollout_calibrates_batch_norm_and_the_update_ends_it() -> None:
    model = PPO(StablePongPolicy, make_pong(), n_steps=8, batch_size=16, n_epochs=1, seed=0)
    norms = norms_with_statistics(model.policy)
    seen: list[list[int]] = []
    forward = model.policy.forward

    def watched(obs: th.Tensor) -> Any:
        out = forward(obs)
        seen.append([int(norm.num_batches_tracked) for norm in norms])
        return out

    model.policy.forward = watched
    model.learn(32)
    assert seen == [[n] * 3 for n in range(1, 9)] + [[8] * 3] * 8  # 8 steps, then neither the update nor the next 8


def test_the_calibrated_policy_acts_as_it_will_in_the_update() -> None:
    torchs_way = {"norm_statistics": "batch"}
    model = PPO(
        StablePongPolicy, make_pong(8), n_steps=32, batch_size=256, n_epochs=1, seed=0, policy_kwargs=torchs_way
    )
    _, callback = model._setup_learn(256, None)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, 32)
    data = next(model.rollout_buffer.get())
    model.policy.set_training_mode(True)
    _, log_prob, _ = model.policy.evaluate_actions(data.observations, data.actions.long().flatten())
    assert float((log_prob.detach() - data.old_log_prob).exp().sub(1).abs().max()) < 0.05


class NormedExtractor(BaseFeaturesExtractor):
    """A user's own extractor, with a norm that has no statistics and one that must stay as it is."""

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space, 4)
        self.loose, self.frozen = nn.BatchNorm1d(4, track_running_stats=False), nn.BatchNorm1d(4)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.frozen(self.loose(observations))


def test_the_norms_of_an_extractor_of_the_users_own_are_not_calibrated() -> None:
    policy_kwargs = {"features_extractor_class": NormedExtractor, "norm": "batch"}
    model = PPO(StableMlpPolicy, make_cartpole(), n_steps=8, batch_size=16, n_epochs=1, policy_kwargs=policy_kwargs)
    model.policy.set_training_mode(False)
    with th.no_grad():
        model.policy(th.ones(3, 4))
    assert int(model.policy.features_extractor.frozen.num_batches_tracked) == 0
    assert int(model.policy.mlp_extractor.policy_net.norm1.num_batches_tracked) == 1
    model.learn(16)


def test_only_acting_as_in_a_rollout_calibrates() -> None:
    built = pong_policy()
    built.set_training_mode(False)
    frames = th.zeros(2, 4, 84, 84, dtype=th.uint8)
    built.predict(np.zeros((2, 4, 84, 84), np.uint8))
    built.evaluate_actions(frames, th.zeros(2))
    built(frames)
    with th.no_grad():
        built(frames, deterministic=True)
    assert [int(norm.num_batches_tracked) for norm in norms_with_statistics(built)] == [0, 0, 0]
    with th.no_grad():
        built(frames)
    assert [int(norm.num_batches_tracked) for norm in norms_with_statistics(built)] == [1, 1, 1]


def test_a_trained_policy_is_not_calibrated_again_after_load(tmp_path: Path) -> None:
    model = PPO(StablePongPolicy, make_pong(), n_steps=8, batch_size=8, n_epochs=1, seed=0).learn(16)
    model.save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model", env=make_pong())
    statistics = [norm.running_mean.clone() for norm in norms_with_statistics(loaded.policy)]
    loaded.policy.set_training_mode(False)
    loaded.policy(th.zeros(2, 4, 84, 84, dtype=th.uint8))
    assert all(
        th.equal(a, n.running_mean) for a, n in zip(statistics, norms_with_statistics(loaded.policy), strict=True)
    )


def test_calibration_adds_no_key_to_the_state_dict_and_draws_no_random_number() -> None:
    built, frames = pong_policy(), th.zeros(2, 4, 84, 84, dtype=th.uint8)
    built.set_training_mode(False)
    keys = list(built.state_dict())
    before = th.get_rng_state()
    built(frames, deterministic=True)
    assert th.equal(th.get_rng_state(), before)
    assert list(built.state_dict()) == keys
