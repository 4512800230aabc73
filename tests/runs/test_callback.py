"""Callbacks that write: beside the logger's files, or in the logger alone; nothing elsewhere, and nothing twice."""

import json
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat, configure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from helpers.envs import SceneEnv, make_cartpole
from helpers.weights import assert_same_weights
from sb3_stable_ppo import ActivationSnapshotCallback, HealthCallback, StableMultiInputPolicy
from sb3_stable_ppo.runs.callback import RunCallback
from sb3_stable_ppo.runs.folder import RunReader

SMALL: dict[str, Any] = {"n_steps": 32, "batch_size": 32, "n_epochs": 1, "seed": 0}


def scenes() -> PPO:
    return PPO(StableMultiInputPolicy, SceneEnv(), **SMALL)


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """The working directory and the one for temporary files, empty both."""
    found = [tmp_path / name for name in ("here", "tmp")]
    for folder in found:
        folder.mkdir()
    monkeypatch.chdir(found[0])
    monkeypatch.setattr(tempfile, "tempdir", str(found[1]))
    return found


class Logged(BaseCallback):
    """What the logger has at the end."""

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self.values = dict(self.logger.name_to_value)


def test_without_a_folder_figures_are_logged_and_nothing_is_written(places: list[Path]) -> None:
    logged = Logged()
    with pytest.warns(UserWarning, match="has no folder"):
        scenes().learn(32, callback=[HealthCallback(), ActivationSnapshotCallback(16), logged])
    assert 0 < logged.values["health/pi.fc1/live_fraction"] <= 1
    assert logged.values["health/features/srank"] > 0
    assert [files_in(place) for place in places] == [[], []]


@pytest.mark.parametrize(
    ("callback", "sentence"),
    [
        (
            HealthCallback,
            "HealthCallback has no folder: its figures and alarms are logged, and last_healthy.zip is not saved. "
            "For files, write HealthCallback(folder=...) or give the algorithm a tensorboard_log.",
        ),
        (
            ActivationSnapshotCallback,
            "ActivationSnapshotCallback has no folder: snapshots are neither stored nor drawn, and training goes on "
            "(callback.activations has the last one). For files, write ActivationSnapshotCallback(folder=...) or give "
            "the algorithm a tensorboard_log.",
        ),
    ],
)
def test_a_callback_without_a_folder_says_so_once(callback: type[RunCallback], sentence: str) -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        scenes().learn(96, callback=callback())
    assert [str(warning.message) for warning in warned if "folder" in str(warning.message)] == [sentence]


@pytest.mark.parametrize("formats", [["csv"], ["tensorboard"]])
def test_the_folder_of_a_logger_that_was_set_is_used(formats: list[str], places: list[Path]) -> None:
    model = scenes()
    model.set_logger(configure("mine", formats))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.learn(64, callback=[HealthCallback(), ActivationSnapshotCallback(32)])
    assert {"mine/health.jsonl", "mine/snapshots/000000000032.npz"} < set(files_in(places[0]))
    assert files_in(places[1]) == []


def test_a_logger_with_tensorboard_and_no_folder_gets_the_pictures(places: list[Path], tmp_path: Path) -> None:
    model = scenes()
    model.set_logger(Logger(None, [TensorBoardOutputFormat(str(tmp_path / "events"))]))
    with pytest.warns(UserWarning, match=r"its pictures go to TensorBoard, and no snapshot is stored\. For files"):
        model.learn(64, callback=ActivationSnapshotCallback(32))
    events = EventAccumulator(str(tmp_path / "events"), size_guidance={"images": 0})
    events.Reload()
    assert [image.step for image in events.Images("activations/camera.conv1")] == [32, 64]
    assert [files_in(place) for place in places] == [[], []]


@pytest.mark.filterwarnings("ignore:.*has no folder")
def test_a_run_with_bare_callbacks_ends_in_the_very_weights_of_a_run_without() -> None:
    watched = scenes().learn(128, callback=[HealthCallback(budget=None), ActivationSnapshotCallback(16)])
    assert_same_weights(watched, scenes().learn(128))


def test_of_two_callbacks_of_one_class_in_one_folder_the_second_writes_nothing_and_says_so(tmp_path: Path) -> None:
    def trained(*callbacks: BaseCallback) -> int:
        model = PPO("MlpPolicy", make_cartpole(), n_steps=16, batch_size=16, n_epochs=1, seed=0)
        model.learn(64, callback=list(callbacks))
        return len((tmp_path / "health.jsonl").read_text().splitlines())

    alone = trained(HealthCallback(folder=tmp_path))
    with pytest.warns(UserWarning, match=r"Two callbacks of the class HealthCallback would write to .*: the second"):
        assert trained(HealthCallback(folder=tmp_path), CallbackList([HealthCallback(folder=tmp_path)])) == alone
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert trained(HealthCallback(folder=tmp_path / "other"), HealthCallback(folder=tmp_path)) == alone
        scenes().learn(32, callback=[HealthCallback(folder=tmp_path), ActivationSnapshotCallback(folder=tmp_path)])


def test_a_run_that_goes_on_from_an_earlier_model_sets_aside_what_came_after_it(tmp_path: Path) -> None:
    def callbacks() -> list[BaseCallback]:
        return [HealthCallback(folder=tmp_path, every=32), ActivationSnapshotCallback(32, tmp_path)]

    model = scenes().learn(64, callback=callbacks())
    model.save(tmp_path / "early.zip")
    model.learn(96, callback=callbacks(), reset_num_timesteps=False)
    early = PPO.load(tmp_path / "early.zip", env=SceneEnv())
    early.learn(32, callback=callbacks(), reset_num_timesteps=False)
    reader = RunReader(tmp_path)
    assert [line["step"] for line in reader.health()] == [32, 64, 96]
    assert reader.snapshot_steps() == [32, 64, 96]
    later = (tmp_path / "health.jsonl.1").read_text().splitlines()
    assert [json.loads(line)["step"] for line in later] == [32, 64, 96, 128, 160]
    assert sorted(path.name for path in (tmp_path / "snapshots.1").iterdir()) == [
        f"{step:012d}.npz" for step in (96, 128, 160)
    ]
