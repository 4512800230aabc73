"""Hidden layers are judged beside convolutions, the critic's own are told of, and a dark one has a meaning."""

import pytest

from helpers.report_data import NO_TIMELINE, run_of
from helpers.run_folders import layer
from sb3_stable_ppo.common.layer_names import ACTOR, CONV, CRITIC
from sb3_stable_ppo.report.activity import DARK_MEANS, dark_means
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
