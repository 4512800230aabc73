"""Snapshots and health: what they write, when, and that they change nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from helpers.envs import SceneEnv, make_cartpole, make_pong
from helpers.weights import assert_same_weights
from sb3_stable_ppo import (
    ActivationSnapshotCallback,
    HealthCallback,
    StableMultiInputPolicy,
    StablePongPolicy,
    StablePPO,
)
from sb3_stable_ppo.probes.activations import ActivationProbe
from sb3_stable_ppo.runs.folder import RunReader
from sb3_stable_ppo.runs.interval import Interval
from sb3_stable_ppo.snapshots.pictures import central_motion, colour_scale

pytestmark = pytest.mark.slow(seconds=1)

SMALL: dict[str, Any] = {"n_steps": 32, "batch_size": 64, "n_epochs": 1, "seed": 0}


def pong_model(**options: Any) -> StablePPO:
    return StablePPO(StablePongPolicy, make_pong(), **{**SMALL, **options})


@pytest.mark.slow
def test_a_run_with_callbacks_ends_in_the_very_weights_of_a_run_without(tmp_path: Path) -> None:
    watched = pong_model().learn(
        192, callback=[ActivationSnapshotCallback(50, tmp_path), HealthCallback(folder=tmp_path)]
    )
    with pytest.warns(UserWarning, match="has no folder"):
        bare = pong_model().learn(192, callback=[ActivationSnapshotCallback(every_updates=1), HealthCallback()])
    without = pong_model().learn(192)
    assert_same_weights(watched, without)
    assert_same_weights(bare, without)
    assert len(RunReader(tmp_path).snapshot_steps()) == 4


def test_snapshots_come_each_so_many_steps_and_at_the_end(tmp_path: Path) -> None:
    pong_model().learn(256, callback=ActivationSnapshotCallback(100, tmp_path))
    assert RunReader(tmp_path).snapshot_steps() == [100, 200, 256]


@pytest.mark.parametrize(
    ("every_updates", "steps"),
    [(1, [64, 128, 192, 256, 320]), (2, [128, 256, 320]), (9, [320])],  # and the end, as with every=
)
def test_snapshots_come_after_each_so_many_updates(every_updates: int, steps: list[int], tmp_path: Path) -> None:
    pong_model().learn(320, callback=ActivationSnapshotCallback(every_updates=every_updates, folder=tmp_path))
    assert RunReader(tmp_path).snapshot_steps() == steps


def test_a_snapshot_after_an_update_is_of_the_weights_after_it(tmp_path: Path) -> None:
    model = pong_model().learn(64, callback=ActivationSnapshotCallback(every_updates=1, folder=tmp_path))
    observation = RunReader(tmp_path).observation()
    assert observation is not None
    probed = ActivationProbe(model.policy)(th.as_tensor(observation["observation"][None]))
    for name, array in RunReader(tmp_path).snapshot(64).items():
        np.testing.assert_allclose(array, probed[name][0].numpy(), atol=1e-3, rtol=1e-3)


def test_where_nothing_has_moved_by_the_first_update_the_liveliest_observation_is_taken(tmp_path: Path) -> None:
    callback = ActivationSnapshotCallback(every_updates=1, folder=tmp_path)
    env = make_pong()  # which moves nothing in the first steps, when no ball is in play
    StablePPO(StablePongPolicy, env, n_steps=1, batch_size=2, n_epochs=1, seed=0).learn(2, callback=callback)
    assert RunReader(tmp_path).snapshot_steps() == [2]
    assert RunReader(tmp_path).observation() is not None


def test_off_policy_snapshots_may_come_after_updates_too(tmp_path: Path) -> None:
    options: dict[str, Any] = {"learning_starts": 20, "train_freq": 10, "buffer_size": 100, "seed": 0}
    model = DQN("CnnPolicy", make_pong(1), **options)
    model.learn(70, callback=ActivationSnapshotCallback(every_updates=2, folder=tmp_path))
    assert RunReader(tmp_path).snapshot_steps() == [40, 60, 70]


def test_both_intervals_are_an_error() -> None:
    with pytest.raises(ValueError, match="every=10 counts environment steps, every_updates=2 counts updates"):
        ActivationSnapshotCallback(10, every_updates=2)


def test_snapshots_after_updates_are_thinned_to_a_longer_interval(tmp_path: Path) -> None:
    callback = ActivationSnapshotCallback(every_updates=1, folder=tmp_path, max_snapshots=2)
    pong_model(n_steps=8, batch_size=16).learn(8 * 16, callback=callback)
    assert callback.interval == Interval(8, "updates")  # 1, 2 and 3 are thinned, then 1, 3 and 4, then 1, 4 and 8
    assert RunReader(tmp_path).snapshot_steps() == [16, 128]


def test_a_run_that_goes_on_with_a_new_callback_keeps_snapshots_of_its_whole_past(tmp_path: Path) -> None:
    model = pong_model(n_steps=16, batch_size=32)
    for _ in range(3):
        callback = ActivationSnapshotCallback(4, tmp_path, max_snapshots=10)
        model.learn(320, callback=callback, reset_num_timesteps=False)
    steps = np.array(RunReader(tmp_path).snapshot_steps())
    assert steps[-1] == 960
    assert np.diff(steps, prepend=0).max() <= 2 * 960 / 5  # thinned to five at least, none of them far from the next


def test_a_new_run_with_the_same_callback_begins_with_its_own_interval(tmp_path: Path) -> None:
    callback = ActivationSnapshotCallback(32, tmp_path, max_snapshots=4)
    for _ in range(2):
        pong_model().learn(384, callback=callback)
        assert RunReader(tmp_path).snapshot_steps()[-1] == 384
        assert callback.interval == Interval(128, "steps")


def test_training_goes_on_where_stored_snapshots_are_damaged(tmp_path: Path) -> None:
    model = pong_model().learn(128, callback=ActivationSnapshotCallback(50, tmp_path))
    scales = {name: colour_scale(array) for name, array in RunReader(tmp_path).snapshot(100).items()}
    first, observation = tmp_path / "snapshots" / f"{50:012d}.npz", tmp_path / "snapshots" / "observation.npz"
    for path in (first, observation):
        content = bytearray(path.read_bytes())
        content[60] ^= 0xFF  # among the packed numbers
        path.write_bytes(content)
    callback = ActivationSnapshotCallback(50, tmp_path)
    model.learn(64, callback=callback, reset_num_timesteps=False)
    assert callback.scales == scales
    assert RunReader(tmp_path).observation() is not None


@pytest.mark.filterwarnings("ignore:.*has no folder")
def test_without_a_folder_the_last_snapshot_is_in_memory() -> None:
    callback = ActivationSnapshotCallback(50)
    model = pong_model().learn(64, callback=callback)
    assert callback.observation is not None
    probed = ActivationProbe(model.policy)(th.as_tensor(callback.observation["observation"][None]))
    assert callback.activations.keys() == {"conv1", "conv2", "conv3"}
    for name, array in callback.activations.items():
        np.testing.assert_allclose(array, probed[name][0].numpy(), atol=1e-5)


def test_a_snapshot_holds_the_activations_of_every_conv_layer_for_the_stored_observation(tmp_path: Path) -> None:
    model = pong_model().learn(128, callback=ActivationSnapshotCallback(100, tmp_path))
    reader = RunReader(tmp_path)
    observation = reader.observation()
    assert observation is not None
    snapshot = reader.snapshot(128)
    assert {name: array.shape for name, array in snapshot.items()} == {
        "conv1": (32, 20, 20),
        "conv2": (64, 9, 9),
        "conv3": (64, 7, 7),
    }
    probed = ActivationProbe(model.policy)(th.as_tensor(observation["observation"][None]))
    for name, array in snapshot.items():
        np.testing.assert_allclose(array, probed[name][0].numpy(), atol=1e-3, rtol=1e-3)


def test_the_observation_has_the_ball_in_play(tmp_path: Path) -> None:
    pong_model(n_steps=128, batch_size=256).learn(256, callback=ActivationSnapshotCallback(250, tmp_path))
    observation = RunReader(tmp_path).observation()
    assert observation is not None
    assert central_motion(observation["observation"]) > 0


def test_tensorboard_gets_one_picture_per_layer_and_snapshot_at_its_step(tmp_path: Path) -> None:
    model = pong_model(tensorboard_log=str(tmp_path))
    model.learn(200, callback=ActivationSnapshotCallback(100), tb_log_name="run")
    model.logger.close()  # a thread writes the events
    events = EventAccumulator(str(tmp_path / "run_1"), size_guidance={"images": 0})
    events.Reload()
    assert events.Tags()["images"] == ["activations/conv1", "activations/conv2", "activations/conv3"]
    assert [image.step for image in events.Images("activations/conv2")] == [100, 200, 256]
    assert RunReader(tmp_path / "run_1").snapshot_steps() == [100, 200, 256]  # beside them, without a folder given


def test_snapshots_beyond_the_most_are_thinned_and_the_interval_doubles(tmp_path: Path) -> None:
    callback = ActivationSnapshotCallback(32, tmp_path, max_snapshots=4)
    pong_model().learn(384, callback=callback)
    steps = RunReader(tmp_path).snapshot_steps()
    assert len(steps) <= 4
    assert callback.interval == Interval(128, "steps")
    assert steps[-1] == 384


def test_a_resumed_run_keeps_observation_and_colour_scale(tmp_path: Path) -> None:
    first, again = ActivationSnapshotCallback(50, tmp_path / "run"), ActivationSnapshotCallback(50, tmp_path / "run")
    model = pong_model().learn(128, callback=first)
    model.learn(64, callback=again, reset_num_timesteps=False)
    assert RunReader(tmp_path / "run").snapshot_steps() == [50, 100, 128, 150, 192]
    assert first.observation is not None
    assert again.observation is not None
    assert np.array_equal(first.observation["observation"], again.observation["observation"])
    assert again.scales == pytest.approx(first.scales, rel=1e-3)


def test_a_second_on_training_end_writes_nothing_more(tmp_path: Path) -> None:
    """rl_zoo3 calls it again on the first callback."""
    callback = ActivationSnapshotCallback(100, tmp_path)
    pong_model().learn(128, callback=callback)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    callback.on_training_end()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_dict_observations_are_drawn_by_their_image(tmp_path: Path) -> None:
    model = PPO(StableMultiInputPolicy, SceneEnv(), n_steps=32, batch_size=32, n_epochs=1, seed=0)
    model.learn(64, callback=[ActivationSnapshotCallback(40, tmp_path), HealthCallback(folder=tmp_path)])
    reader = RunReader(tmp_path)
    assert set(reader.snapshot(40)) == {"camera.conv1", "camera.conv2", "camera.conv3"}
    assert set(reader.observation() or ()) == {"camera", "speed"}
    assert "pi.fc2" in next(reader.health())["layers"]


def test_a_dict_key_may_have_any_name(tmp_path: Path) -> None:
    class Renamed(SceneEnv):
        def __init__(self) -> None:
            super().__init__()
            self.observation_space = spaces.Dict(
                {"observation": self.observation_space["speed"], "file": self.observation_space["camera"]}
            )

        def _observe(self) -> dict[str, np.ndarray]:
            return dict(zip(("file", "observation"), super()._observe().values(), strict=True))

    model = PPO(StableMultiInputPolicy, Renamed(), n_steps=16, batch_size=16, n_epochs=1, seed=0)
    model.learn(32, callback=ActivationSnapshotCallback(16, tmp_path))
    assert set(RunReader(tmp_path).observation() or ()) == {"observation", "file"}
    assert "file.conv1" in RunReader(tmp_path).snapshot(16)


def test_a_second_run_into_the_same_folder_sets_the_first_aside(tmp_path: Path) -> None:
    for steps in (128, 64):
        callbacks = [ActivationSnapshotCallback(64, tmp_path), HealthCallback(folder=tmp_path)]
        pong_model().learn(steps, callback=callbacks)
    assert RunReader(tmp_path).snapshot_steps() == [64]
    assert len(list(RunReader(tmp_path).health())) == 1
    assert len(list((tmp_path / "snapshots.1").glob("0*.npz"))) == 2
    assert len((tmp_path / "health.jsonl.1").read_text().splitlines()) == 2


def test_going_on_in_a_folder_of_another_env_is_an_error(tmp_path: Path) -> None:
    pong_model().learn(64, callback=ActivationSnapshotCallback(64, tmp_path))
    model = PPO(StableMultiInputPolicy, SceneEnv(), n_steps=16, batch_size=16, n_epochs=1, seed=0).learn(64)
    with pytest.raises(ValueError, match="holds snapshots of another env, whose observation 'observation' has shape"):
        model.learn(32, callback=ActivationSnapshotCallback(16, tmp_path), reset_num_timesteps=False)


class SharedActivation(BaseFeaturesExtractor):
    """One ReLU module behind three layers, and one activation that is a function."""

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space, 16)
        self.conv1, self.conv2, self.conv3 = nn.Conv2d(4, 8, 8, 8), nn.Conv2d(8, 8, 3, 3), nn.Conv2d(8, 8, 3)
        self.act, self.out = nn.ReLU(), nn.Linear(8, 16)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        hidden = self.act(self.conv2(self.act(self.conv1(observations))))
        return self.act(self.out(th.relu(self.conv3(hidden)).flatten(1)))


def test_layers_that_share_one_activation_module_are_each_read(tmp_path: Path) -> None:
    policy_kwargs = {"features_extractor_class": SharedActivation}
    model = PPO("CnnPolicy", make_pong(), policy_kwargs=policy_kwargs, **SMALL)
    model.learn(64, callback=[ActivationSnapshotCallback(64, tmp_path), HealthCallback(folder=tmp_path)])
    snapshot = RunReader(tmp_path).snapshot(64)
    assert {name: array.shape for name, array in snapshot.items()} == {
        "conv1": (8, 10, 10),
        "conv2": (8, 3, 3),
        "conv3": (8, 1, 1),
    }
    assert snapshot["conv1"].min() == 0.0
    assert {"fc1", "pi.fc1", "vf.fc2"} < set(next(RunReader(tmp_path).health())["layers"])


def test_snapshots_of_a_policy_without_convolutions_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ActorCriticPolicy has none\. Leave the callback out"):
        PPO("MlpPolicy", make_cartpole(), **SMALL).learn(64, callback=ActivationSnapshotCallback(folder=tmp_path))


@pytest.mark.parametrize("callback", [ActivationSnapshotCallback, HealthCallback])
def test_keeping_no_snapshot_is_an_error(callback: type) -> None:
    with pytest.raises(ValueError, match="must be a whole number of at least 1"):
        callback(**({"max_snapshots": 0} if callback is ActivationSnapshotCallback else {"rows": 0}))


@pytest.mark.parametrize("callback", [ActivationSnapshotCallback, HealthCallback])
def test_an_interval_below_one_is_an_error(callback: type) -> None:
    with pytest.raises(ValueError, match="must be a whole number of at least 1"):
        callback(every=0)


def test_frames_of_a_vec_env_that_reuses_its_arrays_are_copied(tmp_path: Path) -> None:
    callback = ActivationSnapshotCallback(16, tmp_path)
    env = DummyVecEnv([SceneEnv])
    PPO(StableMultiInputPolicy, env, n_steps=16, batch_size=16, n_epochs=1, seed=0).learn(32, callback=callback)
    assert callback.observation is not None
    stored = RunReader(tmp_path).observation()
    assert stored is not None
    assert np.array_equal(stored["camera"], callback.observation["camera"])
