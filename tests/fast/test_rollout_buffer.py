"""TorchRolloutBuffer: SB3's samples in SB3's order, and so SB3's weights."""

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer

from helpers.envs import make_cartpole, make_pong
from helpers.weights import assert_same_weights
from sb3_stable_ppo import StablePPO, TorchRolloutBuffer

OBSERVATIONS = [
    spaces.Box(0, 255, (4, 36, 36), np.uint8),
    spaces.Box(-1, 1, (3,), np.float32),
    spaces.Discrete(5),
    spaces.MultiDiscrete([3, 4]),
]
ACTIONS = [spaces.Discrete(3), spaces.Box(-1, 1, (2,), np.float32), spaces.MultiBinary(4), spaces.MultiDiscrete([2, 3])]


def fill(buffer: RolloutBuffer, seed: int) -> RolloutBuffer:
    """A rollout of random numbers."""
    rng = np.random.default_rng(seed)
    buffer.reset()
    for space in (buffer.observation_space, buffer.action_space):
        space.seed(seed)
    n_envs = buffer.n_envs
    for _ in range(buffer.buffer_size):
        observations, actions = (
            np.array([space.sample() for _ in range(n_envs)])
            for space in (buffer.observation_space, buffer.action_space)
        )
        rewards, starts = rng.normal(size=n_envs), rng.random(n_envs) < 0.2
        values, log_probs = (th.from_numpy(rng.normal(size=n_envs).astype(np.float32)) for _ in range(2))
        buffer.add(observations, actions, rewards, starts, values, log_probs)
    buffer.compute_returns_and_advantage(th.zeros(n_envs), np.zeros(n_envs))
    return buffer


@pytest.mark.parametrize("observation_space", OBSERVATIONS)
@pytest.mark.parametrize("action_space", ACTIONS)
@pytest.mark.parametrize("batch_size", [7, None])
def test_samples_and_their_order_are_sb3s(observation_space: Any, action_space: Any, batch_size: int | None) -> None:
    ours, sb3 = (
        cls(10, observation_space, action_space, "cpu", gae_lambda=0.95, gamma=0.99, n_envs=3)
        for cls in (TorchRolloutBuffer, RolloutBuffer)
    )
    for rollout in range(3):  # the block is written over, and what was drawn from it before must not be
        fill(ours, rollout)
        fill(sb3, rollout)
        assert np.array_equal(ours.observations, sb3.observations)
        for epoch in range(2):
            drawn = []
            for buffer in (ours, sb3):
                np.random.seed(epoch)  # noqa: NPY002  # SB3's buffers draw from the global generator
                drawn.append(list(buffer.get(batch_size)))
            for mine, theirs in zip(*drawn, strict=True):
                for name in mine._fields:
                    assert th.equal(getattr(mine, name), getattr(theirs, name)), name
                    assert getattr(mine, name).dtype == getattr(theirs, name).dtype


@pytest.mark.parametrize("batch_size", [7, None])
def test_channels_last_gives_the_same_samples_laid_out_otherwise(batch_size: int | None) -> None:
    ours, sb3 = (
        cls(10, OBSERVATIONS[0], ACTIONS[0], "cpu", n_envs=3, **options)
        for cls, options in ((TorchRolloutBuffer, {"memory_format": "channels_last"}), (RolloutBuffer, {}))
    )
    for rollout in range(2):
        fill(ours, rollout)
        fill(sb3, rollout)
        assert np.array_equal(ours.observations, sb3.observations)
        drawn = []
        for buffer in (ours, sb3):
            np.random.seed(0)  # noqa: NPY002  # SB3's buffers draw from the global generator
            drawn.append(list(buffer.get(batch_size)))
        for mine, theirs in zip(*drawn, strict=True):
            assert all(th.equal(getattr(mine, name), getattr(theirs, name)) for name in mine._fields)
            assert mine.observations.is_contiguous(memory_format=th.channels_last)


@pytest.mark.parametrize(
    ("space", "memory_format", "complaint"),
    [
        (OBSERVATIONS[1], "channels_last", "channels_last is for images, .* leave memory_format unset"),
        (OBSERVATIONS[0], "nhwc", "Unknown memory_format 'nhwc': choose one of contiguous, channels_last"),
    ],
)
def test_a_memory_format_that_cannot_be_is_an_error(space: Any, memory_format: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        TorchRolloutBuffer(4, space, ACTIONS[0], memory_format=memory_format)


def test_the_observations_stay_in_one_block_and_flattening_copies_nothing() -> None:
    buffer = TorchRolloutBuffer(10, OBSERVATIONS[0], ACTIONS[0], "cpu", n_envs=3)
    block = buffer._block
    fill(buffer, 0)
    next(iter(buffer.get(4)))
    assert np.shares_memory(buffer.observations, block)  # type: ignore[arg-type]
    assert buffer._tensors[0].data_ptr() == block.ctypes.data  # type: ignore[union-attr]
    buffer.reset()
    assert buffer._block is block


@pytest.mark.parametrize("algorithm", [PPO, StablePPO])
def test_training_with_it_ends_in_the_very_weights(algorithm: Any) -> None:
    models = []
    for options in ({}, {"rollout_buffer_class": TorchRolloutBuffer}):
        model = algorithm("MlpPolicy", make_cartpole(), n_steps=32, batch_size=16, n_epochs=3, seed=0, **options)
        models.append(model.learn(128))
    assert_same_weights(*models)


def test_training_on_pong_with_it_ends_in_the_very_weights() -> None:
    models = []
    for options in ({}, {"rollout_buffer_class": TorchRolloutBuffer}):
        model = PPO("CnnPolicy", make_pong(), n_steps=16, batch_size=16, n_epochs=2, seed=0, **options)
        models.append(model.learn(64))
    assert_same_weights(*models)


def test_a_model_with_it_is_saved_and_goes_on(tmp_path: Any) -> None:
    options: Any = {"n_steps": 32, "batch_size": 16, "seed": 0, "rollout_buffer_class": TorchRolloutBuffer}
    PPO("MlpPolicy", make_cartpole(), **options).learn(32).save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model", env=make_cartpole())
    assert isinstance(loaded.rollout_buffer, TorchRolloutBuffer)
    loaded.learn(32)


def test_dict_observations_are_an_error_that_says_what_to_do() -> None:
    space = spaces.Dict({"a": OBSERVATIONS[1]})
    with pytest.raises(ValueError, match="takes no Dict observations: leave rollout_buffer_class unset"):
        TorchRolloutBuffer(4, space, ACTIONS[0])
