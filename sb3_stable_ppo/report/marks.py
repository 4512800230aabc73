"""
What happened in a run, as marks on the time axes of its charts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sb3_stable_ppo.runs.data import RunData

MAX_MARKS = 60
COUNTED = {
    "guards/undone_updates": "an update was undone",
    "guards/dropped_updates": "an update was dropped",
    "guards/skipped_steps": "steps of the optimiser were skipped",
    "guards/nonfinite_rewards": "rewards that are not finite",
    "guards/nonfinite_observations": "observations that are not finite",
}
"""What the guards did: running counts, but for the steps skipped in an update."""


class Mark(NamedTuple):
    """Something that happened: at which step, of which kind (``alarm``, ``clear``, ``guard``, ``repair``), and what."""

    step: int
    kind: str
    text: str


def marks_of(run: RunData) -> list[Mark]:
    """
    Alarms raised and cleared, and what guards and interventions did, in the order of the steps.

    :param run: whose
    """
    found = [
        Mark(int(event.get("step", line["step"])), "alarm" if event.get("raised") else "clear", str(event.get("text")))
        for line in run.health
        for event in line.get("events") or ()
    ]
    found += [
        Mark(int(each.get("step", line["step"])), "repair", str(each.get("text")))
        for line in run.health
        for each in line.get("interventions") or ()
    ]
    for name, text in COUNTED.items():
        curve = run.curves.get(name)
        if curve is not None and len(curve.values):
            changes = curve.values if name.endswith("steps") else np.diff(curve.values, prepend=0.0)
            found += [Mark(int(curve.steps[index]), "guard", text) for index in np.flatnonzero(changes > 0)]
    return sorted(found)


def most_telling(marks: list[Mark]) -> list[Mark]:
    """
    Not more marks than one can tell apart; all alarms before what guards and interventions did.

    :param marks: in the order of the steps
    """
    alarms = [mark for mark in marks if mark.kind in ("alarm", "clear")][:MAX_MARKS]
    others = [mark for mark in marks if mark.kind not in ("alarm", "clear")]
    room = MAX_MARKS - len(alarms)
    return alarms + (others if len(others) <= room else others[:: -(-len(others) // max(room, 1))][:room])
