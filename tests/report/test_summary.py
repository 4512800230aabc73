"""The table at the top of a comparison: a row for each run or group of seeds, as they were given."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from helpers.report_data import run_of
from helpers.run_folders import health_line, layer, write_run
from sb3_stable_ppo.report.comparison import Group, interval_of
from sb3_stable_ppo.report.page import render
from sb3_stable_ppo.report.summary import fewest_live, final_return, summary_of, undone_updates
from sb3_stable_ppo.report.verdict import Verdict
from sb3_stable_ppo.runs.data import read_run

GOOD, DARK = Verdict("healthy", ""), Verdict("collapsed activations", "")


def seed(last: float, live: int = 30, undone: int = 0, steps: int = 3) -> Any:
    curves = {
        "rollout/ep_rew_mean": [*np.zeros(steps - 1), last],
        "guards/undone_updates": [*np.zeros(steps - 1), undone],
    }
    lines = [health_line(layers={"conv1": layer(live, 32), "pi.fc1": layer(60, 64), "vf.fc1": layer(0, 64)})]
    return run_of(curves, lines * steps, algo="stable_ppo", env="Pong")


def test_a_run_has_a_row_with_its_figures() -> None:
    (row,) = summary_of([Group("a", [seed(12.5, 19, 2)])], [[GOOD]])
    assert row.cells == ("a", "stable_ppo", "Pong", "3,000", "12.5", "conv1 19 of 32", "2", "healthy")
    assert row.state == "yes"


def test_seeds_have_one_row_with_the_mean_its_interval_and_the_worst_of_each() -> None:
    runs = [seed(10.0, 30, 0), seed(20.0, 3, 4, steps=5), seed(30.0, 20, 1)]
    (row,) = summary_of([Group("a, b, c", runs)], [[GOOD, DARK, GOOD]])
    low, high = interval_of(np.array([10.0, 20.0, 30.0]))
    assert 10.0 <= low < 20.0 < high <= 30.0
    assert row.cells[3:] == (
        "3,000 to 5,000",
        f"20 ({low:.4g} to {high:.4g})",
        "conv1 3 of 32",
        "0 to 4",
        "collapsed activations (1), healthy (2)",
    )
    assert row.state == "no"


def test_rows_stand_in_the_order_in_which_the_runs_were_given() -> None:
    groups = [Group(name, [seed(value)]) for name, value in (("z", 1.0), ("a", 9.0), ("m", 5.0))]
    assert [row.cells[0] for row in summary_of(groups, [[GOOD], [DARK], [GOOD]])] == ["z", "a", "m"]


def test_what_is_not_on_record_is_a_dash() -> None:
    (row,) = summary_of([Group("a", [run_of()])], [[Verdict("unknown", "")]])
    assert row.cells == ("a", "-", "-", "0", "-", "-", "-", "unknown")
    assert row.state == "open"
    assert fewest_live([run_of(health=[{"layers": {}}])]) == "-"


def test_a_run_with_evaluations_alone_says_that_its_return_is_one() -> None:
    assert final_return([run_of({"eval/mean_reward": [1.0, 7.0]})]) == "7, evaluated"
    assert final_return([run_of({"rollout/ep_rew_mean": [1.0, 2.0, np.nan], "eval/mean_reward": [7.0]})]) == "2"


@pytest.mark.parametrize(("counts", "undone"), [([0, 1, 3], 3), ([0, 2, 0, 1], 3), ([0, 0], 0)])
def test_undone_updates_are_counted_on_where_a_resumed_run_began_anew(counts: list[int], undone: int) -> None:
    assert undone_updates(run_of({"guards/undone_updates": counts})) == undone


def test_only_a_page_of_several_runs_has_the_table(tmp_path: Path) -> None:
    runs = []
    for name, rate in (("a", 1e-4), ("b", 1e-4), ("c", 1e-3)):
        folder = write_run(tmp_path / name, rollouts=5, snapshots=0)
        (folder / "env").mkdir()
        (folder / "env" / "config.yml").write_text(yaml.safe_dump({"learning_rate": rate}))
        runs.append(read_run(folder))
    assert '<table class="summary"' not in render(runs[:1])
    page = render(runs)
    assert page.index('<table class="summary"') < page.index('<p class="verdict')
    assert page.count('<td data-head="run">') == 2
    assert '<td data-head="run">a, b</td>' in page
