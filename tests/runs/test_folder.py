"""The run folder: what is written is read back, whatever cut the run short."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from sb3_stable_ppo.runs.folder import RunReader, RunWriter, thinned


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    writer, reader = RunWriter(tmp_path / "run"), RunReader(tmp_path / "run")
    writer.describe(env="Pong", status="running")
    writer.describe(status="finished")
    writer.health(
        1024, {"layers": {"conv1": {"units": 32, "live": 30, "dormant_fraction": np.float32(0.125)}}, "kl": math.nan}
    )
    writer.observation({"observation": np.arange(8, dtype=np.uint8)})
    writer.snapshot(1000, {"conv1": np.array([[[0.5, -1e9, math.nan]]])})
    assert reader.facts == {"env": "Pong", "status": "finished"}
    assert list(reader.health()) == [
        {"step": 1024, "layers": {"conv1": {"units": 32, "live": 30, "dormant_fraction": 0.125}}, "kl": None}
    ]
    observation = reader.observation()
    assert observation is not None
    assert observation["observation"].tolist() == list(range(8))
    assert reader.snapshot_steps() == [1000]
    assert str(reader.snapshot(1000)["conv1"].ravel().tolist()) == "[0.5, -65504.0, nan]"


def test_an_empty_or_missing_folder_reads_as_nothing(tmp_path: Path) -> None:
    reader = RunReader(tmp_path / "nowhere")
    assert (reader.facts, list(reader.health()), reader.snapshot_steps(), reader.observation()) == ({}, [], [], None)


def test_a_line_cut_short_by_a_kill_is_passed_over(tmp_path: Path) -> None:
    RunWriter(tmp_path).health(1, {})
    with (tmp_path / "health.jsonl").open("a") as file:
        file.write(json.dumps({"step": 2, "layers": {}})[:9])
    assert [line["step"] for line in RunReader(tmp_path).health()] == [1]


def test_a_line_after_one_cut_short_is_not_lost(tmp_path: Path) -> None:
    (tmp_path / "health.jsonl").write_text('{"step": 1, "layers": {}}\n{"ste')
    for step in (3, 4):
        RunWriter(tmp_path).health(step, {})
    assert [line["step"] for line in RunReader(tmp_path).health()] == [1, 3, 4]


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = RunWriter(tmp_path)
    writer.describe(status="running")

    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        writer.describe(status="finished")
    assert RunReader(tmp_path).facts == {"status": "running"}
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@given(steps=st.sets(st.integers(0, 10**6), max_size=200), keep=st.integers(1, 50))
def test_thinning_keeps_the_newest_and_no_more_than_asked(steps: set[int], keep: int) -> None:
    ordered = sorted(steps)
    kept = sorted(steps - set(thinned(ordered, keep)))
    assert len(kept) <= keep
    if steps:
        assert kept[-1] == ordered[-1]
        assert len(kept) > keep // 2 or len(steps) <= keep


def test_snapshots_are_thinned_on_disk(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path, max_snapshots=4)
    for step in range(1, 6):
        writer.snapshot(step, {"conv1": np.zeros(1)})
    assert RunReader(tmp_path).snapshot_steps() == [1, 3, 5]
