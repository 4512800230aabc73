"""What figures.py makes of the recorded runs."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.benchmarks import load


def test_figures_show_interquartile_means_with_intervals_from_three_seeds_on() -> None:
    figures = load("figures")
    assert figures["interval"]([1.0, 2.0]) == (1.5, 1.5, 1.5)
    middle, low, high = figures["interval"]([0.0, 10.0, 11.0, 12.0, 100.0])
    assert middle == pytest.approx(11.0)  # the means of the quarters below and above do not count
    assert 0.0 <= low < middle < high <= 100.0
    text = "a\n<!-- figures: b -->\nold\n<!-- end -->\nc <!-- figures: b -->"
    assert (
        figures["filled"](text, {"b": "new"}) == "a\n<!-- figures: b -->\n\nnew\n\n<!-- end -->\nc <!-- figures: b -->"
    )


@pytest.mark.parametrize("shape", [(3, 1), (5, 1), (8, 1), (5, 8), (7, 3)])
def test_the_interquartile_mean_is_rliables(shape: tuple[int, int]) -> None:
    from rliable.metrics import aggregate_iqm

    scores = np.random.default_rng(0).normal(size=shape)
    assert load("intervals")["interquartile_mean"](scores) == pytest.approx(aggregate_iqm(scores), rel=1e-12)


def test_scores_are_0_for_random_actions_and_1_for_the_zoos_agents_of_as_many_seeds_as_all_tasks_have() -> None:
    tables = load("vector_tables")
    task = tables["Task"]
    hopper, pendulum = task("Hopper-v5", "zoo", 1000), task("Pendulum-v1", "zoo", 1000)
    runs = {hopper: [{"final": 10.0}, {"final": 2410.4}], pendulum: [{"final": -172.2}, {"final": 0.0}, {"final": 0.0}]}
    random = {"Hopper-v5": 10.0, "Pendulum-v1": -1172.2}
    scores = tables["normalised"](runs, [hopper, pendulum], random, lambda row: row["final"])
    assert scores == pytest.approx(np.array([[0.0, 1.0], [1.0, 1.1722]]))


def test_a_probability_of_improvement_is_that_of_pairs_of_runs_whatever_was_drawn_before() -> None:
    intervals = load("intervals")
    ours, theirs = np.array([[1.0], [3.0], [5.0]]), np.array([[0.0], [2.0], [4.0]])
    found = intervals["improvement"](ours, theirs)
    assert found[0] == pytest.approx(6 / 9)
    assert 0.0 <= found[1] < found[0] < found[2] <= 1.0
    np.random.seed(5)  # noqa: NPY002
    assert intervals["improvement"](ours, theirs) == found
