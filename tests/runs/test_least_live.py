"""The share of live units of the layer that has the fewest, from lines of health.jsonl."""

from typing import Any

from sb3_stable_ppo.runs.series import least_live_series, least_live_share


def line(step: int, **live: int) -> dict[str, Any]:
    layers = {name.replace("_", "."): {"live": count, "units": 10} for name, count in live.items()}
    return {"step": step, "layers": layers}


HEALTH = [line(100, conv1=9, pi_fc1=6, vf_fc1=0, critic_fc2=1), line(200, conv1=3, pi_fc1=7, vf_fc1=0, critic_fc2=1)]


def test_the_series_is_of_the_layers_that_actions_depend_on() -> None:
    found = least_live_series(HEALTH)
    assert found.steps.tolist() == [100, 200]
    assert found.values.tolist() == [0.6, 0.3]


def test_the_share_is_of_the_last_line() -> None:
    assert least_live_share(HEALTH) == 0.3
    assert least_live_share(HEALTH[:1]) == 0.6


def test_a_network_that_is_broken_at_the_end_or_was_never_measured_has_none() -> None:
    assert least_live_share([*HEALTH, line(300)]) is None
    assert least_live_share([]) is None
    assert len(least_live_series([]).steps) == 0
    assert least_live_share([line(100, vf_fc1=5)]) is None
