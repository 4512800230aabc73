"""Checkpoints of ``train``: when they are written, which callback writes them, and what signals do."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from rl_zoo3.utils import ALGOS
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback

from helpers.processes import LIMIT, begin, until
from helpers.resumed_runs import (
    ON_POLICY,
    SIGNAL,
    assert_same_runs,
    broken_at,
    facts_of,
    run_folder,
    train,
    write_entry,
)
from sb3_stable_ppo.checkpoints import RunCheckpoint
from sb3_stable_ppo.cli.app import main
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.zoo.checkpointing import CheckpointOptions, checkpoint_of, with_checkpoint
from sb3_stable_ppo.zoo.run_folder import LockedFolder

pytestmark = pytest.mark.slow(seconds=1)

ENTRY: dict[str, Any] = {**ON_POLICY, "batch_size": 16, "n_epochs": 1}
FLAGS = ["--env", "CartPole-v1", "--algo", "ppo", "--seed", "1", "--eval-freq", "-1"]


def run(folder: Path, *flags: str, callbacks: Any = (), **changes: Any) -> int:
    return train(folder, *FLAGS, *write_entry(folder, "CartPole-v1", {**ENTRY, **changes}, *callbacks), *flags)


def steps(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in (folder / "checkpoints").glob("*"))


# -- which callback ----------------------------------------------------------------------------------------------------


class Other(BaseCallback):
    def _on_step(self) -> bool:
        return True


def given(*flags: Any) -> list[BaseCallback]:
    return with_checkpoint([Other()], PPO, CheckpointOptions(*flags), "folder")


def test_by_default_a_checkpoint_is_the_last_callback_and_is_due_every_ten_minutes() -> None:
    *_, last = given()
    assert isinstance(last, RunCheckpoint)
    assert (last.every, last.every_minutes, last.replay_buffer, last.folder) == (None, 10.0, True, "folder")
    assert checkpoint_of(given()) is not None


@pytest.mark.parametrize(
    ("flags", "expected"), [((3.0, None), (None, 3.0)), ((0.0, 50), (50, None)), ((None, 50), (50, 10.0))]
)
def test_flags_say_how_often(flags: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    found = checkpoint_of(given(*flags))
    assert found is not None
    assert (found.every, found.every_minutes) == expected


def test_zero_minutes_and_no_steps_are_no_checkpoints() -> None:
    assert checkpoint_of(given(0.0)) is None


def test_that_of_the_configuration_is_used_as_the_last() -> None:
    own, other = RunCheckpoint(every=3), Other()
    assert with_checkpoint([own, other], PPO, CheckpointOptions(), "folder") == [other, own]
    with pytest.raises(UsageError, match="contradict each other: leave one of them out"):
        with_checkpoint([own, other], PPO, CheckpointOptions(steps=5), "folder")


def test_where_the_algorithm_cannot_be_served_there_is_none_unless_it_is_asked_for() -> None:
    callbacks = [CheckpointCallback(5, "folder")]
    assert with_checkpoint(callbacks, ALGOS["ars"], CheckpointOptions(), "folder") == callbacks
    assert with_checkpoint(callbacks, ALGOS["ars"], CheckpointOptions(minutes=0), "folder") == callbacks
    with pytest.raises(UsageError, match="ARS is neither an on-policy nor an off-policy algorithm"):
        with_checkpoint(callbacks, ALGOS["ars"], CheckpointOptions(steps=5), "folder")


# -- runs --------------------------------------------------------------------------------------------------------------


def test_a_finished_run_keeps_its_last_checkpoint_alone(tmp_path: Path) -> None:
    assert run(tmp_path, "--checkpoint-steps", "64") == 0
    folder = run_folder(tmp_path)
    assert steps(folder) == [256]
    assert facts_of(folder)["resume"] == "exact"


def test_a_run_without_checkpoints_says_so_and_trains_the_same(tmp_path: Path) -> None:
    assert run(tmp_path / "with", "--checkpoint-steps", "64") == 0
    assert run(tmp_path / "without", "--checkpoint-minutes", "0") == 0
    without = run_folder(tmp_path / "without")
    assert not (without / "checkpoints").exists()
    assert facts_of(without)["resume"] == "no checkpoints"
    assert_same_runs(run_folder(tmp_path / "with"), without, "CartPole-v1")


def test_checkpoints_of_the_configuration_are_written_too(tmp_path: Path) -> None:
    callback = {"sb3_stable_ppo.RunCheckpoint": {"every": 64, "keep": 2}}
    assert run(tmp_path, "--stop-at-return", "1e9", callbacks=[callback]) == 0
    assert steps(run_folder(tmp_path)) == [256]


@pytest.mark.slow(seconds=25)
def test_envs_that_cannot_be_saved_are_one_line_and_their_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_entry(tmp_path, "CartPole-v1", ENTRY, broken_at(tmp_path, 150))
    flags = [*FLAGS, *config, "--vec-env", "subproc", "--checkpoint-steps", "64", "--no-report", "--no-progress"]
    with pytest.raises(RuntimeError):
        main(["train", *flags, "-f", str(tmp_path / "logs")])
    printed = capsys.readouterr()
    told = "continues, not bit for bit: the state of the envs in SubprocVecEnv cannot be saved"
    assert f"Checkpoints: a run that is resumed from them {told}." in printed.out
    assert "bit for bit" not in printed.err
    folder = run_folder(tmp_path)
    assert facts_of(folder)["resume"] == told
    before = [path.read_text() for path in sorted(folder.glob("*.monitor.csv"))]
    assert all(len(text.splitlines()) > 2 for text in before)
    assert main(["train", "--resume", str(folder)]) == 0
    assert facts_of(folder)["num_timesteps"] == 256
    for path, text in zip(sorted(folder.glob("*.monitor.csv")), before, strict=True):
        assert path.read_text().splitlines()[:3] == text.splitlines()[:3]
        assert path.read_text().count("#") == 1
    assert "the run continues from step 128, not bit for bit" in capsys.readouterr().err.lower()


def test_a_run_that_another_process_trains_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError):
        run(tmp_path, "--checkpoint-steps", "64", callbacks=[broken_at(tmp_path, 150)])
    folder = run_folder(tmp_path)
    other = LockedFolder(folder)
    assert main(["train", "--resume", str(folder)]) == 2
    assert "another process is training this run" in capsys.readouterr().err
    other.release()
    assert main(["train", "--resume", str(folder), "--no-report"]) == 0


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_run_whose_model_could_not_be_saved_has_not_finished_and_is_finished_by_resuming_it(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = BaseAlgorithm.save

    def fails(self: BaseAlgorithm, path: Any, *args: Any, **kwargs: Any) -> None:
        if str(path).endswith("_1/CartPole-v1"):
            raise error
        save(self, path, *args, **kwargs)

    with monkeypatch.context() as patches:
        patches.setattr(BaseAlgorithm, "save", fails)
        with suppress(OSError):
            assert run(tmp_path, "--checkpoint-steps", "64") == 128 + signal.SIGINT
    folder = run_folder(tmp_path)
    facts = facts_of(folder)
    assert facts["status"] == "failed"
    assert facts["error"].startswith("The model could not be saved: ")
    assert main(["train", "--resume", str(folder), "--no-report"]) == 0
    assert facts_of(folder)["status"] == "finished"
    assert (folder / "CartPole-v1.zip").is_file()


# -- signals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_update_end_and_the_resumed_run_is_the_unbroken_one(
    number: signal.Signals, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    (tmp_path / "mark").touch()
    assert run(unbroken, callbacks=[broken_at(tmp_path, 0, SIGNAL, number=0)], normalize=True) == 0
    broken.mkdir()
    callback = broken_at(broken, 140, SIGNAL, number=int(number))
    assert run(broken, callbacks=[callback], normalize=True) == 128 + number
    assert f"{number.name}: training ends after this update, with a checkpoint" in capfd.readouterr().err
    folder = run_folder(broken)
    facts = facts_of(folder)
    assert (facts["status"], facts["interrupted_by"], facts["num_timesteps"]) == ("stopped", number.name, 160)
    assert steps(folder) == [160]
    assert (folder / "CartPole-v1.zip").is_file()
    assert main(["train", "--resume", str(folder)]) == 0
    assert_same_runs(run_folder(unbroken), folder, "CartPole-v1")
    assert facts_of(folder)["interrupted_by"] is None


def test_a_signal_in_the_last_rollout_lets_the_run_finish(tmp_path: Path) -> None:
    callback = broken_at(tmp_path, 240, SIGNAL, number=int(signal.SIGTERM))
    assert run(tmp_path, callbacks=[callback]) == 0
    assert facts_of(run_folder(tmp_path))["status"] == "finished"


def test_sigusr1_asks_for_a_checkpoint_and_training_goes_on(tmp_path: Path) -> None:
    callback = broken_at(tmp_path, 140, SIGNAL, number=int(signal.SIGUSR1))
    (tmp_path / "second").mkdir()
    stop = broken_at(tmp_path / "second", 200)
    with pytest.raises(RuntimeError):
        run(tmp_path, callbacks=[callback, stop])
    assert steps(run_folder(tmp_path)) == [160]


def test_without_checkpoints_a_signal_ends_training_at_once(tmp_path: Path) -> None:
    callback = broken_at(tmp_path, 140, SIGNAL, number=int(signal.SIGTERM))
    assert run(tmp_path, "--checkpoint-minutes", "0", callbacks=[callback]) == 143
    facts = facts_of(run_folder(tmp_path))
    assert (facts["status"], facts["interrupted_by"], facts["num_timesteps"]) == ("stopped", "SIGTERM", 140)


def test_what_breaks_off_an_update_writes_no_checkpoint(tmp_path: Path) -> None:
    """rl_zoo3 tells the first callback, here RunCheckpoint, that training has ended, whatever has ended it."""

    with pytest.MonkeyPatch.context() as patch:

        def fail(model: PPO) -> None:
            if model.num_timesteps >= 96:
                raise RuntimeError("a kernel has failed")

        patch.setattr(PPO, "train", fail)
        with pytest.raises(RuntimeError, match="a kernel has failed"):
            run(tmp_path, "--checkpoint-steps", "32")
    assert steps(run_folder(tmp_path)) == [32, 64]


@pytest.mark.slow(seconds=40)
def test_a_process_that_is_killed_for_real_goes_on_in_another(tmp_path: Path) -> None:
    (tmp_path / "mark").touch()
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    config = write_entry(tmp_path, "CartPole-v1", {**ENTRY, "n_timesteps": 2048}, "helpers.callbacks.Pauses")
    line = ["train", *FLAGS, *config, "--checkpoint-steps", "64", "--no-report", "--no-progress"]
    assert main([*line, "-f", str(unbroken / "logs")]) == 0
    process = begin(*line, "-f", str(broken / "logs"), "--resume", "auto")
    until(lambda: list(broken.glob("logs/ppo/*/checkpoints/*256")))
    process.kill()
    assert process.wait(LIMIT) == -signal.SIGKILL
    process = begin("train", "--resume", str(run_folder(broken)))
    until(lambda: list(broken.glob("logs/ppo/*/checkpoints/*512")))
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(LIMIT) == 143
    assert begin(*line, "-f", str(broken / "logs"), "--resume", "auto").wait(LIMIT) == 0
    assert_same_runs(run_folder(unbroken), run_folder(broken), "CartPole-v1")
    assert len(facts_of(run_folder(broken))["resumed"]) == 2
    assert [path.name for path in (broken / "logs" / "ppo").iterdir()] == ["CartPole-v1_1"]


@pytest.mark.slow(seconds=20)
def test_a_second_signal_ends_training_at_once(tmp_path: Path) -> None:
    config = write_entry(tmp_path, "CartPole-v1", {**ENTRY, "n_steps": 100_000}, "helpers.callbacks.Slow")
    process: subprocess.Popen[bytes] = begin(
        "train", *FLAGS, *config, "-n", "100000", "-f", str(tmp_path / "logs"), "--no-report"
    )
    monitors = "logs/ppo/*/*.monitor.csv"
    until(lambda: [path for path in tmp_path.glob(monitors) if path.read_text().count("\n") > 2])  # an episode is over
    process.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2)
    process.terminate()
    try:
        assert process.wait(LIMIT) == 143
    finally:
        process.kill()
    folder = run_folder(tmp_path)
    assert steps(folder) == []
    assert (folder / "CartPole-v1.zip").is_file()
