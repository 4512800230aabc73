"""Checkpoints on disk: whole or not at all, and told apart from damaged ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from sb3_stable_ppo.checkpoints import RunCheckpoint, resume
from sb3_stable_ppo.checkpoints.folder import (
    FORMAT,
    newest_checkpoint,
    prune,
    set_aside_later,
    warn_of_other_owner,
    writing,
)
from sb3_stable_ppo.common.errors import UsageError


def write(root: Path, step: int, content: str = "content") -> Path:
    facts: dict[str, object] = {}
    with writing(root / "checkpoints", step, facts) as folder:
        (folder / "logs").mkdir()
        (folder / "logs" / "file").write_text(content)
        facts["exact"] = True
    return root / "checkpoints" / f"{step:012d}"


def test_the_newest_is_taken(tmp_path: Path) -> None:
    write(tmp_path, 1000), write(tmp_path, 900)
    assert newest_checkpoint(tmp_path).step == 1000
    assert newest_checkpoint(tmp_path).facts["exact"] is True


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda folder: (folder / "logs" / "file").write_text("conteNt"), "logs/file has other bytes"),
        (lambda folder: (folder / "logs" / "file").write_text("cont"), "logs/file has other bytes"),
        (lambda folder: (folder / "logs" / "file").unlink(), "logs/file cannot be read"),
        (lambda folder: (folder / "manifest.json").write_text('{"format"'), "manifest.json cannot be read"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "manifest.json cannot be read"),
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json cannot be read"),
    ],
)
def test_a_damaged_one_is_skipped_for_the_one_before(damage: object, told: str, tmp_path: Path) -> None:
    write(tmp_path, 100)
    damage(write(tmp_path, 200))  # type: ignore[operator]
    with pytest.warns(UserWarning, match=f"000200 is damaged: {told}"):
        assert newest_checkpoint(tmp_path).step == 100


def test_where_none_is_sound_an_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no checkpoint, so that there is nothing to resume from"):
        newest_checkpoint(tmp_path)
    (write(tmp_path, 200) / "manifest.json").unlink()
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(UsageError, match="None of the 1 checkpoints"):
        newest_checkpoint(tmp_path)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, 200) / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": FORMAT + 1}))
    with pytest.raises(UsageError, match=f"has format {FORMAT + 1}, and this version of sb3-stable-ppo knows formats"):
        newest_checkpoint(tmp_path)


def test_one_that_is_written_again_takes_the_old_ones_place(tmp_path: Path) -> None:
    write(tmp_path, 100, "old"), write(tmp_path, 100, "new")
    checkpoint = newest_checkpoint(tmp_path)
    assert (checkpoint.folder / "logs" / "file").read_text() == "new"
    assert [path.name for path in checkpoint.folder.parent.iterdir()] == [checkpoint.folder.name]


def test_nothing_is_left_of_one_that_could_not_be_written(tmp_path: Path) -> None:
    def write_half() -> None:
        with writing(tmp_path, 100, {}) as folder:
            (folder / "file").write_text("half")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_a_run_clears_what_a_killed_one_has_left_half_written(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / ".000000000032.1.part").mkdir(parents=True)
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=32, batch_size=32, n_epochs=1)
    model.learn(32, reset_num_timesteps=False, callback=RunCheckpoint(folder=tmp_path))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["000000000032"]


def test_those_of_later_steps_that_are_set_aside_are_neither_resumed_nor_pruned(tmp_path: Path) -> None:
    root = tmp_path / "checkpoints"
    for _ in range(2):
        for step in (100, 200, 300):
            write(tmp_path, step)
        with pytest.warns(UserWarning, match="has checkpoints of later steps than 100, at which this run begins"):
            set_aside_later(root, 100)
        assert newest_checkpoint(tmp_path).step == 100
    prune(root, 1)
    later = [f"000000000{step}.{number}" for step in (200, 300) for number in (1, 2)]
    assert sorted(path.name for path in root.iterdir()) == ["000000000100", *later]
    set_aside_later(root, 100)  # without a warning, as there is nothing left to do


def test_where_they_cannot_be_set_aside_a_warning_says_what_resume_would_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("Read-only file system")

    write(tmp_path, 200)
    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.warns(UserWarning, match=r"200 is of another run .*Move it away, or resume\(\) will go on from it"):
        set_aside_later(tmp_path / "checkpoints", 100)


def test_another_env_or_none_is_refused(tmp_path: Path) -> None:
    model = PPO("MlpPolicy", make_vec_env("CartPole-v1"), n_steps=32, batch_size=32, n_epochs=1)
    model.learn(32, callback=RunCheckpoint(folder=tmp_path))
    with pytest.raises(UsageError, match="give the env, built as in the first run"):
        resume(tmp_path)
    with pytest.raises(UsageError, match=r"The env differs .* Monitor.*Build it as in the first run"):
        resume(tmp_path, make_vec_env("CartPole-v1", n_envs=2))


def test_files_of_another_user_are_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path, 100)
    warn_of_other_owner(folder)
    monkeypatch.setattr("os.getuid", lambda: folder.stat().st_uid + 1)
    with pytest.warns(UserWarning, match="belong to another user. A checkpoint is loaded by executing pickles"):
        warn_of_other_owner(folder)
