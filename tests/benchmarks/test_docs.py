"""The docs' commands and tables are those of the benchmarks."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest

from helpers.benchmarks import FIGURES, NAMES, PAGES, call, load
from helpers.processes import ROOT

pytestmark = pytest.mark.slow(seconds=1)


def documented_commands() -> list[tuple[str, str]]:
    """(page, command) of each ``python benchmarks/...`` in the docs, broken over lines or not."""
    text = re.compile(r"python\s+(benchmarks/[^`#\n]*(?:\n[^`#\n]+)*?)(?=`|\n```|\n(?=python)|\s*#|\n\n)")
    return [(page.name, " ".join(match.split())) for page in PAGES for match in text.findall(page.read_text())]


@pytest.mark.parametrize(("page", "command"), documented_commands())
def test_a_command_in_the_docs_is_understood(
    page: str,  # noqa: ARG001  # names the test
    command: str,
    results: Path,  # noqa: ARG001  # sets the path up
) -> None:
    script, *flags = shlex.split(command)
    assert (ROOT / script).is_file()
    runpy.run_path(str(ROOT / script))["options"]().parse_args(flags)


def test_every_benchmark_is_named_in_the_docs() -> None:
    named = {Path(command.split()[0]).stem for _, command in documented_commands()}
    assert named == {*NAMES, FIGURES}


@pytest.mark.usefixtures("real_results")
def test_tables_of_learning_in_the_docs_are_those_of_the_recorded_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        call(monkeypatch, FIGURES, "--check")
    assert capsys.readouterr().out == "All pages say what is on record.\n"
    marks = [name for page in PAGES for name in re.findall(r"<!-- figures: ([\w-]+) -->", page.read_text())]
    assert sorted(marks) == [
        "continual",
        "games",
        "healthy-images",
        "healthy-runs",
        "healthy-vectors",
        "make-pong",
        "million-steps",
        "million-steps-shipped",
        "off-policy-dqn",
        "pendulum",
        "pong",
        "pong-controls",
        "pong-runs",
        "pong-shipped-runs",
        "readme",
        "vectors-final",
        "vectors-over-runs",
        "vectors-scores",
    ]


@pytest.mark.usefixtures("real_results")
def test_the_run_that_the_readme_shows_had_the_configuration_of_today() -> None:
    make_pong = load("make_pong")
    shown = make_pong["finished"]("make_pong")[-1]
    assert shown["cell"]["configuration"] == make_pong["configuration"](), "remake it: see benchmarks/make_pong.py"


def cells(line: str, labels: int) -> list[str]:
    """What stands behind a row's first ``labels`` cells, without bold type."""
    return [cell.strip().replace("*", "") for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))][labels:]


def tables(text: str) -> list[list[str]]:
    """The rows of each Markdown table, without heads."""
    found = re.findall(r"(?:^\|.*\|$\n?)+", text, re.MULTILINE)
    return [table.splitlines()[2:] for table in found]


TABLES = [
    ("bf16_learning", "fast_path.md", 1),
    ("calibration", "batchnorm.md", 2),
    ("checkpoint_cost", "reliability.md", 1),
    ("eight_envs", "fast_path.md", 0),
    ("emulator_threads", "fast_path.md", 1),
    ("env_parity", "fast_path.md", 0),
    ("gauntlet", "gauntlet.md", 0),
    ("group_norm", "fast_path.md", 1),
    ("healthy_updates", "guards.md", 2),
    ("intervention_cost", "interventions.md", 1),
    ("kills", "reliability.md", 1),
    ("lost_points", "pong.md", 1),
    ("lr_sweep", "guards.md", 1),
    ("norms", "norms.md", 0),
    ("overhead", "guards.md", 1),
    ("pong_stress", "guards.md", 1),
    ("report_cost", "report.md", 1),
    ("restarting", "reliability.md", 5),
    ("seeded_resets", "reliability.md", 1),
    ("soak", "reliability.md", 1),
    ("storage_traffic", "tuning.md", 1),
    ("storage_traffic", "scaling.md", 2),
    ("throughput", "fast_path.md", 1),
    ("vectors", "fast_path.md", 0),
]
"""Benchmark, page, and how many columns of words come first: the page says them in its own way."""


@pytest.mark.usefixtures("real_results")
@pytest.mark.parametrize(("name", "page", "labels"), TABLES)
def test_a_table_in_the_docs_shows_what_is_on_record(
    name: str, page: str, labels: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, name, "--table")
    printed = tables(capsys.readouterr().out)
    shown = tables((ROOT / "docs" / page).read_text())

    def figures(found: list[list[str]]) -> list[list[list[str]]]:
        return [[cells(row, labels) for row in table] for table in found]

    assert any(table in figures(shown) for table in figures(printed))
