"""When an intervention acts, as users write it."""

from typing import Any

import pytest

from sb3_stable_ppo import L2Init
from sb3_stable_ppo.interventions.adam_reset import AdamReset
from sb3_stable_ppo.interventions.triggers import Trigger


def test_each_form_of_when_is_read() -> None:
    assert Trigger.of("always") == Trigger("always")
    assert Trigger.of({"every_updates": "1e1"}) == Trigger("every_updates", 10)
    assert Trigger.of({"on_alarm": "low_rank"}) == Trigger("on_alarm", alarms=("low_rank",))
    assert Trigger.of({"on_alarm": ["low_rank", "nonfinite"]}).alarms == ("low_rank", "nonfinite")


@pytest.mark.parametrize(
    ("when", "complaint"),
    [
        ("sometimes", "Unknown when 'sometimes': choose one of always, every_updates, on_alarm; every_updates and"),
        ("every_updates", "Unknown when 'every_updates': .* take a value, as in"),
        ({"every_updates": 0}, "every_updates must be a whole number of at least 1, not 0"),
        ({"on_alarm": "fire"}, "Unknown alarm 'fire': choose one of nonfinite, inactive_layer, dormant_layer"),
        ({"every_updates": 1, "on_alarm": "low_rank"}, "when takes one of always, every_updates, on_alarm at a time"),
        ({"on_alarm": 5}, "on_alarm takes the name of an alarm or a list of names, not 5"),
        ({"on_alarm": []}, r"on_alarm takes the name of an alarm or a list of names, not \[\]"),
        ({"always": True}, "when: always takes no value"),
        ({}, "when takes one of always, every_updates, on_alarm at a time"),
    ],
)
def test_anything_else_is_one_clear_error(when: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        L2Init(when=when)


def test_an_intervention_that_cannot_act_always_says_what_it_can() -> None:
    with pytest.raises(ValueError, match="Unknown when 'always': choose one of every_updates, on_alarm"):
        AdamReset(when="always")
