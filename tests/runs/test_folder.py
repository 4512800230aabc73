"""The run folder's writer: what it appends, and what it reads for that."""

import json
from pathlib import Path
from typing import Any

import pytest

from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.runs.data import read_run
from sb3_stable_ppo.runs.folder import FORMAT, RunReader, RunWriter


def test_a_line_after_half_a_line_of_a_killed_run_stands_by_itself(tmp_path: Path) -> None:
    (tmp_path / "health.jsonl").write_text('{"step": 1}\n{"step": 2, "lay')
    RunWriter(tmp_path).health(3, {"value": float("nan")})
    assert (tmp_path / "health.jsonl").read_text() == '{"step": 1}\n{"step": 2, "lay\n{"step": 3, "value": null}\n'
    assert [line["step"] for line in RunReader(tmp_path).health()] == [1, 3]


def test_the_first_line_is_written_into_a_new_folder_or_an_empty_file(tmp_path: Path) -> None:
    RunWriter(tmp_path / "new").health(1, {})
    assert (tmp_path / "new" / "health.jsonl").read_text() == '{"step": 1}\n'
    (tmp_path / "health.jsonl").touch()
    RunWriter(tmp_path).health(1, {})
    assert (tmp_path / "health.jsonl").read_text() == '{"step": 1}\n'


def test_a_line_is_appended_without_reading_those_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "health.jsonl"
    path.write_text("".join(json.dumps({"step": step}) + "\n" for step in range(10_000)))
    open_file, read = Path.open, []

    def counting_open(self: Path, *args: Any, **kwargs: Any) -> Any:
        file = open_file(self, *args, **kwargs)
        if self.name != path.name:
            return file

        class Counting:
            def read(self, size: int = -1) -> Any:
                content = file.read(size)
                read.append(len(content))
                return content

            def __enter__(self) -> Any:
                return self

            def __exit__(self, *_: object) -> None:
                file.close()

            def __getattr__(self, name: str) -> Any:
                return getattr(file, name)

        return Counting()

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", counting_open)
        RunWriter(tmp_path).health(10_000, {})
    assert read == [1]
    assert path.read_text().splitlines()[-2:] == ['{"step": 9999}', '{"step": 10000}']


def test_run_json_has_a_format_and_one_of_a_newer_is_refused_in_a_sentence(tmp_path: Path) -> None:
    RunWriter(tmp_path).describe(status="running")
    assert RunReader(tmp_path).facts == {"format": FORMAT, "status": "running"}
    RunWriter(tmp_path).describe(format=FORMAT + 1, versions={"sb3-stable-ppo": "9.0"})
    with pytest.raises(
        UsageError, match=rf"has format {FORMAT + 1}, .* formats up to {FORMAT}: .* that wrote it, 9.0."
    ):
        read_run(tmp_path)


def test_a_run_folder_without_a_format_is_read(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"status": "finished"}')
    assert read_run(tmp_path).status == "finished"
