"""Every benchmark works in its smallest form, and the docs' commands and tables are those of the benchmarks."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import torch as th
import yaml

from helpers.processes import ROOT
from sb3_stable_ppo.fast.config import why_no_bf16

BENCHMARKS = ROOT / "benchmarks"
SHARED = {
    "command",
    "million_steps",
    "pong",
    "ranges_of_runs",
    "record",
    "suite_settings",
    "suite_watch",
    "vector_settings",
    "vector_tables",
    "vitals",
}
"""Modules that benchmarks import, which measure nothing by themselves."""
FIGURES = "figures"
"""Writes what ``suite`` has recorded into the docs, and measures nothing either."""
NAMES = sorted({path.stem for path in BENCHMARKS.glob("*.py")} - SHARED - {FIGURES})
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for results; a benchmark finds its neighbours as if its script had been started."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "path", list(sys.path))  # what a script adds is gone after the test
    monkeypatch.setenv("BENCHMARK_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


def call(monkeypatch: pytest.MonkeyPatch, name: str, *flags: str) -> None:
    """Run a script in this process as ``python benchmarks/<name>.py`` does, without a new import of torch."""
    script = str(BENCHMARKS / f"{name}.py")
    monkeypatch.setattr(sys, "argv", [script, *flags])
    runpy.run_path(script, run_name="__main__")


def real_results() -> dict[str, int]:
    return {path.name: path.stat().st_size for path in (BENCHMARKS / "results").iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_runs_in_its_smallest_form_and_leaves_the_real_results_alone(
    name: str,
    results: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if name == "report_cost" and shutil.which("chromium") is None:
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    if name == "bf16_learning" and (why := why_no_bf16(th.device("cpu"))):
        pytest.skip(why)
    before = real_results()
    call(monkeypatch, name, "--smoke")
    (line,) = (results / f"{name}.jsonl").read_text().splitlines()
    assert {"cell", "machine", "versions"} < set(json.loads(line))
    assert real_results() == before

    capsys.readouterr()
    call(monkeypatch, name, "--smoke", "--table")
    assert capsys.readouterr().out.strip()
    assert (results / f"{name}.jsonl").read_text().splitlines() == [line]


def test_the_smallest_form_is_refused_where_the_real_results_lie(
    results: Path,  # noqa: ARG001  # sets the path up
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("BENCHMARK_RESULTS", str(BENCHMARKS / "results"))
    with pytest.raises(SystemExit, match="2"):
        call(monkeypatch, "env_parity", "--smoke")
    assert "unset BENCHMARK_RESULTS" in capsys.readouterr().err


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


def test_tables_of_learning_in_the_docs_are_those_of_the_recorded_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("BENCHMARK_RESULTS", raising=False)
    with pytest.raises(SystemExit, match="0"):
        call(monkeypatch, FIGURES, "--check")
    assert capsys.readouterr().out == "All pages say what is on record.\n"
    marks = [name for page in PAGES for name in re.findall(r"<!-- figures: ([\w-]+) -->", page.read_text())]
    assert sorted(marks) == [
        "healthy-images",
        "healthy-runs",
        "healthy-vectors",
        "make-pong",
        "million-steps",
        "pendulum",
        "pong",
        "pong-controls",
        "pong-runs",
        "pong-shipped-runs",
        "readme",
        "vectors-final",
        "vectors-over-runs",
    ]


def test_the_run_that_the_readme_shows_had_the_configuration_of_today(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("BENCHMARK_RESULTS", raising=False)
    make_pong = runpy.run_path(str(BENCHMARKS / "make_pong.py"))
    shown = make_pong["finished"]("make_pong")[-1]
    assert shown["cell"]["configuration"] == make_pong["configuration"](), "remake it: see benchmarks/make_pong.py"


@pytest.mark.slow
def test_every_settings_of_the_suite_makes_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "path", list(sys.path))
    suite = runpy.run_path(str(BENCHMARKS / "suite.py"))
    for name, settings in suite["SETTINGS"].items():
        if settings.bins and not name.endswith((", stock", "MlpPolicy", "layer leaky_relu", "silu, input")):
            continue  # the other networks differ in words alone
        model = suite["build"](settings, 0)
        model.env.close()
        assert model.n_envs == settings.n_envs, name


@pytest.mark.usefixtures("results")
def test_a_run_on_vectors_is_recorded_as_a_curve_and_a_final_score() -> None:
    suite = runpy.run_path(str(BENCHMARKS / "suite.py"))
    found = suite["run"]("Pendulum-v1, zoo, layer leaky_relu, input", 0, 4096)
    assert "games" not in found
    assert [step for step, _, _ in found["curve"]] == sorted({step for step, _, _ in found["curve"]})
    assert sum(count for *_, count in found["curve"]) == 20  # four envs, episodes of 200 steps
    assert -2000 < found["final"] < 0


@pytest.mark.usefixtures("results")
def test_a_run_of_the_suite_goes_on_from_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = runpy.run_path(str(BENCHMARKS / "suite.py"))
    name, steps = "Pendulum-v1, zoo, layer leaky_relu", 8192
    unbroken = suite["run"](name, 0, steps)
    monkeypatch.setenv(suite["CHECKPOINTS"], str(tmp_path))
    model, watch = suite["build"](suite["SETTINGS"][name], 0), suite["Watch"](0, checks=False)
    suite["learn"](model, steps // 2, [watch], suite["checkpoint_folder"](name, 0, steps))
    gone_on = suite["run"](name, 0, steps)
    assert gone_on.pop("resumed_at") == [steps // 2]
    assert gone_on["minutes"] > 0
    assert {**gone_on, "minutes": 0} == {**unbroken, "minutes": 0}


def test_every_network_of_the_vector_settings_has_another_name_and_other_options(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "path", list(sys.path))
    found = runpy.run_path(str(BENCHMARKS / "vector_settings.py"))
    networks = list(found["networks"]())
    assert len({name for name, _ in networks}) == len({repr(sorted(options.items())) for _, options in networks}) == 32
    assert len(found["SETTINGS"]) == 8 * 2 * (2 + 32)
    hopper = found["SETTINGS"]["Hopper-v5, zoo, layer leaky_relu"]
    assert hopper.policy_kwargs["net_arch"] == {"pi": [256, 256], "vf": [256, 256]}
    assert "activation_fn" not in hopper.policy_kwargs
    assert found["SETTINGS"]["Hopper-v5, zoo, stock"].policy_kwargs["ortho_init"] is False


def test_what_the_suite_calls_shipped_is_what_the_configuration_has(monkeypatch: pytest.MonkeyPatch) -> None:
    from sb3_stable_ppo.schedules.learning_rate import make_schedule
    from sb3_stable_ppo.zoo.hyperparams import with_numbers

    monkeypatch.syspath_prepend(str(BENCHMARKS))
    shipped = runpy.run_path(str(BENCHMARKS / "suite_settings.py"))["SHIPPED"]
    entries = with_numbers(yaml.safe_load((ROOT / "zoo_configs/stable_ppo.yml").read_text()))
    entry = entries["PongNoFrameskip-v4"]
    assert repr(make_schedule(**entry["learning_rate"])) == repr(shipped.options["learning_rate"])
    for name in ("n_steps", "batch_size", "n_epochs", "clip_range", "ent_coef", "vf_coef", "rollout_buffer_kwargs"):
        assert entry[name] == shipped.options[name], name
    assert (entry["n_envs"], entry["policy"]) == (shipped.n_envs, shipped.policy)
    assert {**entry["policy_kwargs"], "compile": "auto"} == shipped.policy_kwargs


def test_the_cost_of_an_intervention_that_has_done_nothing_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    from sb3_stable_ppo import ReDo, WeightClip

    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "path", list(sys.path))
    cost = runpy.run_path(str(BENCHMARKS / "intervention_cost.py"))
    entry, compared_ones = cost["Entry"], cost["INTERVENTIONS"]
    compared_ones.clear()
    compared_ones["WeightClip"] = entry(WeightClip, "steps")
    found = cost["time_models"]("smoke", 0, 1)
    assert found["traces"] == {"WeightClip": 10}  # 10 epochs of a minibatch each, in the round that is not timed
    assert {name: len(seconds) for name, seconds in found["seconds"].items()} == {
        "stock": 1,
        "stock again": 1,
        "WeightClip": 1,
    }
    compared_ones["idle"] = entry(lambda: ReDo(when={"every_updates": 100}), "acted")
    with pytest.raises(RuntimeError, match="idle has done nothing in 1 rounds of smoke"):
        cost["time_models"]("smoke", 0, 1)


def test_figures_show_interquartile_means_with_intervals_from_three_seeds_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "path", list(sys.path))
    figures = runpy.run_path(str(BENCHMARKS / "figures.py"))
    assert figures["interval"]([1.0, 2.0]) == (1.5, 1.5, 1.5)
    middle, low, high = figures["interval"]([0.0, 10.0, 11.0, 12.0, 100.0])
    assert middle == pytest.approx(11.0)  # the means of the quarters below and above do not count
    assert 0.0 <= low < middle < high <= 100.0
    text = "a\n<!-- figures: b -->\nold\n<!-- end -->\nc <!-- figures: b -->"
    assert (
        figures["filled"](text, {"b": "new"}) == "a\n<!-- figures: b -->\n\nnew\n\n<!-- end -->\nc <!-- figures: b -->"
    )


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
    ("lr_sweep", "guards.md", 1),
    ("norms", "norms.md", 0),
    ("overhead", "guards.md", 1),
    ("pong_stress", "guards.md", 1),
    ("report_cost", "report.md", 1),
    ("restarting", "reliability.md", 3),
    ("seeded_resets", "reliability.md", 1),
    ("soak", "reliability.md", 1),
    ("storage_traffic", "tuning.md", 1),
    ("storage_traffic", "scaling.md", 2),
    ("throughput", "fast_path.md", 1),
    ("vectors", "fast_path.md", 0),
]
"""Benchmark, page, and how many columns of words come first: the page says them in its own way."""


@pytest.mark.parametrize(("name", "page", "labels"), TABLES)
def test_a_table_in_the_docs_shows_what_is_on_record(
    name: str, page: str, labels: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("BENCHMARK_RESULTS", raising=False)
    call(monkeypatch, name, "--table")
    printed = tables(capsys.readouterr().out)
    shown = tables((ROOT / "docs" / page).read_text())

    def figures(found: list[list[str]]) -> list[list[list[str]]]:
        return [[cells(row, labels) for row in table] for table in found]

    assert any(table in figures(shown) for table in figures(printed))
