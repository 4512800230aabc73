"""
When an intervention acts: at each step of an optimizer, every so many updates, or when an alarm is raised.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sb3_stable_ppo.common.checks import one_of, unknown, whole_number
from sb3_stable_ppo.health.alarms import RULES

KINDS = ("always", "every_updates", "on_alarm")
ALARMS = tuple(rule.name for rule in RULES)


class Trigger(NamedTuple):
    """
    >>> Trigger.of({"every_updates": 10})
    Trigger(kind='every_updates', number=10, alarms=())

    :param kind: one of ``KINDS``
    :param number: updates from one time to the next, with ``every_updates``
    :param alarms: names of HealthCallback's alarms, with ``on_alarm``
    """

    kind: str
    number: int = 0
    alarms: tuple[str, ...] = ()

    @classmethod
    def of(cls, when: str | Mapping[str, Any], kinds: tuple[str, ...] = KINDS) -> Trigger:
        """
        From the argument ``when``.

        :param when: ``"always"``, ``{"every_updates": N}`` or ``{"on_alarm": name}``, with a list for several alarms
        :param kinds: those that the intervention knows
        :raises ValueError: for anything else
        """
        also = "; every_updates and on_alarm take a value, as in {'every_updates': 10}"
        if isinstance(when, Mapping) and set(when) == {"always"}:
            raise ValueError(f"when: always takes no value, not {when!r}: write when='always'.")
        entries: list[tuple[Any, Any]] = list(when.items()) if isinstance(when, Mapping) else [(when, None)]
        if len(entries) != 1:
            raise ValueError(f"when takes one of {', '.join(kinds)} at a time, not {when!r}.")
        kind, value = entries[0]
        if kind not in kinds or (kind != "always" and value is None):
            raise ValueError(unknown("when", when, kinds, also))
        if kind == "always":
            return cls(kind)
        if kind == "every_updates":
            return cls(kind, whole_number(value, "every_updates", 1))
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, (list, tuple)) or not names:
            raise ValueError(f"on_alarm takes the name of an alarm or a list of names, not {value!r}.")
        return cls(kind, alarms=tuple(one_of(name, ALARMS, "alarm") for name in names))

    def __str__(self) -> str:
        return {
            "always": "always",
            "every_updates": f"every {self.number} updates" if self.number > 1 else "every update",
            "on_alarm": f"on {' or '.join(self.alarms)}",
        }[self.kind]
