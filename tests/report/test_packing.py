"""The page's library is packed: small, harmless within a script element, and the very same when it is unpacked."""

import base64
import gzip
import random
from pathlib import Path

import pytest
from plotly.offline import get_plotlyjs

from helpers.run_folders import write_run
from sb3_stable_ppo.report.packing import packed, packed_plotly
from sb3_stable_ppo.report.page import render
from sb3_stable_ppo.runs.data import read_run


def unpacked(text: str) -> str:
    return gzip.decompress(base64.b85decode(text.replace(",", "<"))).decode()


@pytest.mark.parametrize("length", range(12))
def test_what_is_packed_comes_back(length: int) -> None:
    text = "".join(random.Random(length).choices("</script>é\x00\r\n<!--", k=length))
    assert unpacked(packed(text)) == text


def test_packed_text_ends_no_script_element() -> None:
    for number in range(50):
        assert "<" not in packed(str(random.Random(number).random()))
    assert "<" not in packed_plotly()


def test_the_library_is_whole() -> None:
    assert unpacked(packed_plotly()) == get_plotlyjs()


def test_a_page_of_a_small_run_without_snapshots_is_below_2_mb(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", rollouts=100, snapshots=0, dies_at=50)
    page = render([read_run(folder)]).encode()
    assert len(page) < 2_000_000


def test_a_page_without_charts_carries_no_library(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", snapshots=0)
    (folder / "progress.csv").unlink()
    (folder / "health.jsonl").unlink()
    assert len(render([read_run(folder)]).encode()) < 50_000
