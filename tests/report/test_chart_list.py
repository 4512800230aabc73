"""Charts that would tell nothing are left out, and what never changes is said in one line."""

from pathlib import Path

import numpy as np
import pytest

from helpers.report_data import run_of
from helpers.run_folders import write_run
from sb3_stable_ppo.report.chart_list import constants_of, single_points_of
from sb3_stable_ppo.report.charts import comparison_charts, curve_charts
from sb3_stable_ppo.report.comparison import Group
from sb3_stable_ppo.report.page import render
from sb3_stable_ppo.runs.data import read_run


@pytest.mark.parametrize(
    ("name", "values", "title", "fact"),
    [
        ("guards/lr_scale", [1.0, 1.0], None, ""),
        ("guards/lr_scale", [1.0, 0.5], "Learning-rate scale", ""),
        ("guards/lr_scale", [0.5, 0.5], None, "learning-rate scale 0.5"),
        ("norm/first_ratio_error", [0.0, 0.0], None, ""),
        ("norm/first_ratio_error", [2e-7, 1e-6], None, ""),  # rounding, where no BatchNorm changes the policy
        ("norm/first_ratio_error", [0.0, 0.1], "Error of the first ratio", ""),
        ("train/learning_rate", [3e-4, 3e-4], None, "learning rate 0.0003"),
        ("train/learning_rate", [3e-4, 2e-4], "Learning rate", ""),
        ("train/learning_rate", [3e-4], None, "learning rate 0.0003"),
        ("train/clip_range", [0.2, np.nan, 0.2], None, "clip range 0.2"),
        ("train/ent_coef", [0.0, 0.0], None, "entropy coefficient 0"),
        ("rollout/exploration_rate", [0.05, 0.05], None, "exploration rate 0.05"),
        ("rollout/ep_rew_mean", [-21.0, -21.0], "Return", ""),  # measured: that it never changes tells something
        ("train/clip_fraction", [0.0, 0.0], "Clip fraction", ""),
        ("rollout/ep_rew_mean", [-21.0], None, ""),
        ("rollout/ep_rew_mean", [-21.0, np.nan], None, ""),
        ("train/loss", [np.nan, np.inf], None, ""),
    ],
)
def test_a_chart_is_drawn_if_it_tells_something(name: str, values: list[float], title: str | None, fact: str) -> None:
    run = run_of({name: values})
    assert [found for found, _ in curve_charts(run)] == ([title] if title else [])
    assert [found for found, _ in comparison_charts([Group("a", [run])])] == ([title] if title else [])
    assert constants_of(run) == fact


def test_a_setting_that_changes_in_one_of_the_runs_has_a_chart() -> None:
    constant, moving = run_of({"train/learning_rate": [1e-3, 1e-3]}), run_of({"train/learning_rate": [1e-3, 1e-4]})
    assert comparison_charts([Group("a", [constant]), Group("b", [constant])]) == []
    ((title, figure),) = comparison_charts([Group("a", [constant]), Group("b", [moving])])
    assert title == "Learning rate"
    assert len(figure.data) == 2


def test_an_evaluation_has_its_point_beside_the_curve_of_the_returns() -> None:
    ((title, figure),) = curve_charts(run_of({"rollout/ep_rew_mean": [1.0, 2.0], "eval/mean_reward": [3.0]}))
    assert title == "Return"
    assert [list(trace.y) for trace in figure.data] == [[1.0, 2.0], [3.0]]


def test_what_was_measured_once_is_said_in_words() -> None:
    curves = {"rollout/ep_rew_mean": [9.5], "train/entropy_loss": [-0.7], "train/approx_kl": [0.01, 0.02]}
    assert single_points_of(run_of({**curves, "train/learning_rate": [1e-3]})) == "return 9.5, entropy 0.7"
    assert single_points_of(run_of({"train/approx_kl": [0.01]})) == "KL of an update 0.01"


def test_the_page_has_the_constants_in_one_line(tmp_path: Path) -> None:
    runs = [read_run(write_run(tmp_path / name, rollouts=5, snapshots=0)) for name in ("a", "b")]
    page = render(runs[:1])
    assert page.count("Constant over the run: learning rate 0.0001.") == 1
    assert "Learning-rate scale" not in page
    assert '<p class="facts">Constant in a: learning rate 0.0001. Constant in b: learning rate 0.0001.</p>' in render(
        runs
    )
    assert "Measured only once: return" in render([read_run(write_run(tmp_path / "c", rollouts=1, snapshots=0))])
