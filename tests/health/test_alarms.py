"""When an alarm is raised and cleared, and what it is compared with."""

import math
from typing import Any

import pytest

from sb3_stable_ppo.health.alarms import RULES, Alarms


def line_with(**values: Any) -> dict[str, Any]:
    layers = {
        name: {"fault_fraction": value, "dormant_fraction": 0.1, "fault": "dead"} for name, value in values.items()
    }
    return {"layers": layers, "nonfinite": None}


def test_an_alarm_is_raised_after_three_in_a_row_and_names_the_first_layer_and_the_first_step() -> None:
    alarms = Alarms()
    assert alarms.update(100, line_with(conv1=0.95, conv2=0.2)) == []
    assert alarms.update(200, line_with(conv1=0.2, conv2=0.2)) == []  # the row is broken
    assert alarms.update(300, line_with(conv1=0.5, conv2=0.95, conv3=1.0)) == []
    assert alarms.update(400, line_with(conv1=0.5, conv2=0.96, conv3=1.0)) == []
    (event,) = alarms.update(500, line_with(conv1=0.5, conv2=0.97, conv3=1.0))
    assert (event.name, event.raised, event.step, event.where, event.value) == (
        "inactive_layer",
        True,
        300,
        "conv2",
        0.97,
    )
    assert event.text == "97% of the units of conv2 are dead (since step 300)"


def test_an_alarm_is_cleared_only_well_below_its_threshold_and_can_be_raised_again() -> None:
    alarms = Alarms()
    values = [0.95, 0.95, 0.95, 0.85, 0.95, 0.79, 0.95, 0.95, 0.95]
    found = [alarms.update(step, line_with(conv1=value)) for step, value in enumerate(values)]
    assert [(step, event.raised) for step, events in enumerate(found) for event in events] == [
        (2, True),
        (5, False),
        (8, True),
    ]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_clears_on_the_healthy_side_of_where_it_is_raised(rule: Any) -> None:
    assert rule.raise_at != rule.clear_at
    assert rule.is_beyond(rule.raise_at, rule.raise_at)
    assert not rule.is_beyond(rule.clear_at, rule.raise_at)
    assert rule.is_beyond(math.nan, rule.raise_at)


def test_ranks_are_compared_with_their_peak_and_norms_with_the_first_five() -> None:
    alarms, found = Alarms(), []
    for step, (srank, norm) in enumerate([(100, 2), (200, 2), *[(150, 3)] * 3, *[(40, 30)] * 3]):
        found += alarms.update(step, {"features": {"layer": "fc1", "srank": srank, "norm": norm}})
    assert [(event.name, event.step, event.where) for event in found] == [
        ("falling_rank", 5, "fc1"),
        ("growing_norm", 5, "fc1"),
    ]


def test_ranks_of_observations_of_few_numbers_raise_no_alarm() -> None:
    def raised(inputs: int) -> list[str]:
        alarms, found = Alarms(), []
        for step, srank in enumerate([100, *[10] * 3, *[1] * 3]):
            found += alarms.update(step, {"features": {"layer": "fc1", "srank": srank, "norm": 2, "inputs": inputs}})
        return [event.name for event in found]

    assert raised(4) == []
    assert raised(8) == ["falling_rank", "low_rank"]


def test_alarms_leave_the_figures_as_they_are_and_return_the_comparisons_beside_them() -> None:
    alarms = Alarms()
    alarms.update(0, {"features": {"layer": "fc1", "srank": 100, "norm": 2.0}})
    line = {"features": {"layer": "fc1", "srank": 50, "norm": 4.0}}
    alarms.update(1, line)
    assert line == {"features": {"layer": "fc1", "srank": 50, "norm": 4.0}}
    assert alarms.comparisons == {"norm_growth": 4.0 / 3.0, "srank_share": 0.5}


@pytest.mark.parametrize(
    ("width", "srank", "is_low"), [(2, 2, False), (2, 1, True), (4, 4, False), (4, 2, True), (64, 2, True)]
)
def test_features_of_few_numbers_are_low_only_where_some_of_them_are_lost(width: int, srank: int, is_low: bool) -> None:
    alarms = Alarms()
    line = {"features": {"layer": "pi.fc1", "srank": srank, "width": width, "inputs": 64}, "nonfinite": None}
    events = [event for step in range(3) for event in alarms.update(step, line)]
    assert [event.name for event in events] == (["low_rank"] if is_low else [])
    full = {**line, "features": {**line["features"], "srank": width}}  # type: ignore[dict-item]
    assert [event.raised for event in alarms.update(4, full)] == ([False] if is_low else [])
