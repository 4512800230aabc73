"""Hidden layers are judged beside convolutions, the critic's own are told of, and a dark one has a meaning."""

import pytest

from helpers.report_data import NO_TIMELINE, check, run_of
from helpers.run_folders import health_line, layer
from sb3_stable_ppo.common.layer_names import ACTOR, CONV, CRITIC
from sb3_stable_ppo.health.alarms import RULES
from sb3_stable_ppo.report.activity import DARK_MEANS, dark_means
from sb3_stable_ppo.report.check import Check
from sb3_stable_ppo.report.checks import checks_of


def lines(**live: int) -> list[dict[str, object]]:
    """20 measurements of layers of 64 units; ``live`` holds from the 11th on."""
    return [
        {"layers": {name.replace("_", "."): layer(64 if n < 10 else count, 64) for name, count in live.items()}}
        for n in range(20)
    ]


@pytest.mark.parametrize(
    ("live", "states", "lost"),
    [
        ({"conv1": 64, "pi_fc1": 64, "vf_fc1": 64}, ["yes", "yes"], ""),
        ({"conv1": 0, "pi_fc1": 64, "vf_fc1": 64}, ["no", "yes"], ""),
        ({"conv1": 64, "fc1": 0}, ["yes", "no"], " Lost: fc1 since step 11,000."),
        (
            {"conv1": 64, "pi_fc1": 3, "vf_fc1": 0},
            ["yes", "no"],
            " Lost: pi.fc1 since step 11,000. Lost, but of the critic alone and not judged: vf.fc1 since step 11,000.",
        ),
        (
            {"conv1": 64, "pi_fc1": 64, "vf_fc1": 0},
            ["yes", "yes"],
            " Lost, but of the critic alone and not judged: vf.fc1 since step 11,000.",
        ),
        ({"conv1": 64, "vf_fc1": 64}, ["yes", "open"], ""),
    ],
)
def test_hidden_layers_have_a_check_of_their_own_beside_convolutions(
    live: dict[str, int], states: list[str], lost: str
) -> None:
    convs, hidden = checks_of(run_of(health=lines(**live)), NO_TIMELINE)[:2]
    assert (convs.name, hidden.name) == (
        "Activity sustained in every conv layer",
        "Activity sustained in every hidden layer",
    )
    assert [convs.state, hidden.state] == states
    assert "".join(hidden.text.partition(" Lost")[1:]) == lost


def test_a_network_without_convolutions_has_one_check_which_tells_of_the_critic() -> None:
    checks = checks_of(run_of(health=lines(pi_fc1=64, vf_fc1=0)), NO_TIMELINE)
    assert [check.name for check in checks if "Activity" in check.name] == ["Activity sustained in every layer"]
    assert checks[0].state == "yes"
    assert "pi.fc1 100% → 100%, vf.fc1 100% → 0%" in checks[0].text


def test_a_network_without_layers_to_read_is_not_one_without_health() -> None:
    found = checks_of(run_of(health=[health_line(layers={})]), NO_TIMELINE)[0]
    assert (found.name, found.state) == ("Activity sustained in every layer", "open")
    assert found.text.startswith("HealthCallback measured no layer")


def test_what_a_lost_layer_means_is_said_by_its_kind() -> None:
    convs, hidden = checks_of(run_of(health=lines(conv1=0, pi_fc1=0, vf_fc1=0)), NO_TIMELINE)[:2]
    assert convs.meaning == DARK_MEANS[CONV]
    assert hidden.meaning == f"{DARK_MEANS[ACTOR]} {DARK_MEANS[CRITIC]}"
    assert not any(check.meaning for check in checks_of(run_of(health=lines(conv1=64, pi_fc1=64)), NO_TIMELINE))


def test_the_kinds_are_told_apart_by_the_layers_names() -> None:
    assert len(dark_means(["camera.conv1", "fc1", "vf.conv1"])) == 3
    assert dark_means(["pi.fc1", "fc2", "pi.fc2"]) == [DARK_MEANS[ACTOR]]
    assert dark_means(["critic.fc1"]) == [DARK_MEANS[CRITIC]]
    assert dark_means([]) == []


def activity_of(*live: int) -> Check:
    """The check of a run whose one hidden layer has so many live units of 100."""
    return check(run_of(health=[{"layers": {"pi.fc1": layer(count, 100)}} for count in live]), "Activity")


@pytest.mark.parametrize(
    ("live", "state"),
    [
        ((12, 12, 12, 10), "no"),  # the doctor's threshold itself
        ((12, 12, 12, 11), "open"),  # above it, but no alarm of it would clear
        ((30, 30, 30, 20), "open"),
        ((30, 30, 30, 21), "yes"),
        ((11, 11, 11, 18), "yes"),
        ((11, 11, 11, 11), "yes"),
        ((54, 11, 9, 17, 14), "yes"),  # a healthy run of Pong
    ],
)
def test_a_layer_that_sinks_to_the_edge_of_the_dark_is_no_yes(live: tuple[int, ...], state: str) -> None:
    assert activity_of(*live).state == state


def test_a_layer_is_lost_where_doctor_and_alarm_call_it_inactive() -> None:
    figures = layer(10, 100)
    (rule,) = [rule for rule in RULES if rule.name == "inactive_layer"]
    assert rule.is_beyond(round(figures["fault_fraction"], 6), rule.raise_at)
    assert activity_of(10).state == "no"


def test_a_fall_within_the_first_measurements_is_told_with_its_step() -> None:
    assert activity_of(54, 11, 9, 17, 14).text == (
        "Units live, at first (median of steps 1,000 to 3,000) and at the end: pi.fc1 11% → 14% (54% at step 1,000)."
    )
    assert activity_of(40).text == "Units live, at first (step 1,000) and at the end: pi.fc1 40% → 40%."
    assert activity_of(12, 12, 12, 11).text.endswith(" Close to dark, and below what it was at first: pi.fc1.")
