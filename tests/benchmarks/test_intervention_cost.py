"""The cost of an intervention is that of one that has acted."""

from __future__ import annotations

import pytest

from helpers.benchmarks import load


def test_the_cost_of_an_intervention_that_has_done_nothing_is_no_figure() -> None:
    from sb3_stable_ppo import ReDo, WeightClip

    cost = load("intervention_cost")
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
