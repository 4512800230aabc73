"""TorchRolloutBuffer and its form for Dict observations: SB3's samples in SB3's order, and so SB3's weights."""

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.vec_env import DummyVecEnv
from torch.overrides import TorchFunctionMode

from helpers.envs import SceneEnv, make_cartpole, make_pong
from helpers.weights import assert_same_weights
from sb3_stable_ppo import StablePPO, TorchDictRolloutBuffer, TorchRolloutBuffer

OBSERVATIONS = [
    spaces.Box(0, 255, (4, 36, 36), np.uint8),
    spaces.Box(-1, 1, (3,), np.float32),
    spaces.Discrete(5),
    spaces.MultiDiscrete([3, 4]),
]
DICT = spaces.Dict({"image": OBSERVATIONS[0], "vector": OBSERVATIONS[1], "kind": OBSERVATIONS[2]})
ACTIONS = [spaces.Discrete(3), spaces.Box(-1, 1, (2,), np.float32), spaces.MultiBinary(4), spaces.MultiDiscrete([2, 3])]


def stacked(samples: list[Any]) -> Any:
    """As a vec env gives them."""
    if isinstance(samples[0], dict):
        return {key: stacked([sample[key] for sample in samples]) for key in samples[0]}
    return np.array(samples)


def fields(samples: Any) -> dict[str, th.Tensor]:
    """By name, those of a Dict one by one."""
    named = samples._asdict()
    return named | named.pop("observations") if isinstance(named["observations"], dict) else named


def fill(buffer: RolloutBuffer, seed: int) -> RolloutBuffer:
    """A rollout of random numbers."""
    rng = np.random.default_rng(seed)
    buffer.reset()
    for space in (buffer.observation_space, buffer.action_space):
        space.seed(seed)
    n_envs = buffer.n_envs
    for _ in range(buffer.buffer_size):
        observations, actions = (
            stacked([space.sample() for _ in range(n_envs)])
            for space in (buffer.observation_space, buffer.action_space)
        )
        rewards, starts = rng.normal(size=n_envs), rng.random(n_envs) < 0.2
        values, log_probs = (th.from_numpy(rng.normal(size=n_envs).astype(np.float32)) for _ in range(2))
        buffer.add(observations, actions, rewards, starts, values, log_probs)
    buffer.compute_returns_and_advantage(th.zeros(n_envs), np.zeros(n_envs))
    return buffer


@pytest.mark.parametrize("observation_space", [*OBSERVATIONS, DICT])
@pytest.mark.parametrize("action_space", ACTIONS)
@pytest.mark.parametrize("batch_size", [7, None])
def test_samples_and_their_order_are_sb3s(observation_space: Any, action_space: Any, batch_size: int | None) -> None:
    classes = (
        (TorchDictRolloutBuffer, DictRolloutBuffer)
        if observation_space is DICT
        else (TorchRolloutBuffer, RolloutBuffer)
    )
    ours, sb3 = (
        cls(10, observation_space, action_space, "cpu", gae_lambda=0.95, gamma=0.99, n_envs=3) for cls in classes
    )
    for rollout in range(3):  # the block is written over, and what was drawn from it before must not be
        fill(ours, rollout)
        fill(sb3, rollout)
        np.testing.assert_equal(ours.observations, sb3.observations)
        for epoch in range(2):
            drawn = []
            for buffer in (ours, sb3):
                np.random.seed(epoch)  # noqa: NPY002  # SB3's buffers draw from the global generator
                drawn.append(list(buffer.get(batch_size)))
            for mine, theirs in zip(*drawn, strict=True):
                assert type(mine) is type(theirs)
                found, expected = fields(mine), fields(theirs)
                assert list(found) == list(expected)
                for name, tensor in found.items():
                    assert th.equal(tensor, expected[name]), name
                    assert tensor.dtype == expected[name].dtype


@pytest.mark.parametrize("batch_size", [7, None])
@pytest.mark.parametrize("space", [OBSERVATIONS[0], DICT])
def test_channels_last_gives_the_same_samples_laid_out_otherwise(space: Any, batch_size: int | None) -> None:
    cls, stock = (TorchDictRolloutBuffer, DictRolloutBuffer) if space is DICT else (TorchRolloutBuffer, RolloutBuffer)
    ours = cls(10, space, ACTIONS[0], "cpu", n_envs=3, memory_format="channels_last")
    sb3 = stock(10, space, ACTIONS[0], "cpu", n_envs=3)
    for rollout in range(2):
        fill(ours, rollout)
        fill(sb3, rollout)
        np.testing.assert_equal(ours.observations, sb3.observations)
        drawn = []
        for buffer in (ours, sb3):
            np.random.seed(0)  # noqa: NPY002  # SB3's buffers draw from the global generator
            drawn.append(list(buffer.get(batch_size)))
        for mine, theirs in zip(*drawn, strict=True):
            found, expected = fields(mine), fields(theirs)
            assert all(th.equal(found[name], expected[name]) for name in expected)
            images = found["image" if space is DICT else "observations"]
            assert images.is_contiguous(memory_format=th.channels_last)


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
    block = buffer.observations
    fill(buffer, 0)
    next(iter(buffer.get(4)))
    assert np.shares_memory(buffer.observations, block)
    assert buffer._tensors[0].data_ptr() == block.ctypes.data
    buffer.reset()
    assert np.shares_memory(buffer.observations, block)


def test_each_key_of_a_dict_stays_in_a_block_of_its_own() -> None:
    buffer = TorchDictRolloutBuffer(10, DICT, ACTIONS[0], "cpu", n_envs=3)
    blocks = dict(buffer.observations)
    fill(buffer, 0)
    next(iter(buffer.get(4)))
    assert all(buffer._flat[key].data_ptr() == block.ctypes.data for key, block in blocks.items())
    buffer.reset()
    assert all(np.shares_memory(buffer.observations[key], block) for key, block in blocks.items())


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


def test_training_on_dict_observations_ends_in_the_very_weights() -> None:
    models = []
    for options in ({}, {"rollout_buffer_class": TorchDictRolloutBuffer}):
        env = DummyVecEnv([SceneEnv, SceneEnv])
        env.seed(0)
        model = PPO("MultiInputPolicy", env, n_steps=16, batch_size=16, n_epochs=2, seed=0, **options)
        models.append(model.learn(64))
    assert_same_weights(*models)


def test_a_model_with_it_is_saved_and_goes_on(tmp_path: Any) -> None:
    options: Any = {"n_steps": 32, "batch_size": 16, "seed": 0, "rollout_buffer_class": TorchRolloutBuffer}
    PPO("MlpPolicy", make_cartpole(), **options).learn(32).save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model", env=make_cartpole())
    assert isinstance(loaded.rollout_buffer, TorchRolloutBuffer)
    loaded.learn(32)


def test_observations_of_the_other_kind_are_an_error_that_names_the_buffer_for_them() -> None:
    with pytest.raises(ValueError, match="takes no Dict observations: use TorchDictRolloutBuffer"):
        TorchRolloutBuffer(4, DICT, ACTIONS[0])
    with pytest.raises(ValueError, match=r"is for Dict observations, not Box.*: use TorchRolloutBuffer"):
        TorchDictRolloutBuffer(4, OBSERVATIONS[0], ACTIONS[0])


def test_channels_last_of_a_dict_without_images_is_an_error() -> None:
    space = spaces.Dict({"vector": OBSERVATIONS[1]})
    with pytest.raises(ValueError, match=r"channels_last is for images, .* leave memory_format unset"):
        TorchDictRolloutBuffer(4, space, ACTIONS[0], memory_format="channels_last")


class Uploads(TorchFunctionMode):
    """Keeps tensors where they are, and notes those that were to be elsewhere, and whether that is a wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[tuple[int, bool]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not th.Tensor.to:
            return func(*args, **(kwargs or {}))
        assert args[1] == th.device("cuda")
        self.waits.append((len(args[0]), not (kwargs or {}).get("non_blocking", False)))
        return args[0]


@pytest.mark.parametrize(("cls", "space"), [(TorchRolloutBuffer, OBSERVATIONS[0]), (TorchDictRolloutBuffer, DICT)])
def test_a_rollout_goes_to_a_gpu_once_from_page_locked_memory_and_without_a_wait(
    cls: Any, space: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked: list[th.Size] = []
    monkeypatch.setattr(th.Tensor, "pin_memory", lambda tensor: (locked.append(tensor.shape), tensor)[1])
    buffer = cls(6, space, ACTIONS[0], device="cpu", n_envs=2)
    buffer.device = th.device("cuda")
    buffer._block, buffer._blocks = None, {}
    fill(buffer, seed=0)
    keys = len(space) if space is DICT else 1
    assert len(locked) == keys
    with Uploads() as uploads:
        for _ in range(2):  # epochs
            assert sum(len(samples.actions) for samples in buffer.get(4)) == 12
    assert (
        uploads.waits == [(12, False)] * (keys + 5) + [(4, False)] * 6
    )  # the rollout, and which rows each minibatch has
