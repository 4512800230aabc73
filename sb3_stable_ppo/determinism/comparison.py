"""
Two records of the same run, and where they part.
"""

from __future__ import annotations

from typing import NamedTuple

from sb3_stable_ppo.determinism import events as of
from sb3_stable_ppo.determinism.events import Event, Record

ROUNDING = 1e-4
"""Relative; what float32 loses in a sum of many terms stays below it at first."""
LISTED_ENVS = 8


class Difference(NamedTuple):
    """
    Where two runs compute something else. Updates, steps and envs count from 0; rollout 3 comes before update 3.

    :param kind: ``observation``, ``action mask``, ``value``, ``action``, ``log-prob``, ``reward``, ``done``,
        ``gradient``, ``weight``, ``random numbers``; or ``course``, if the runs have not done the same things
    :param name: of the tensor, of the generator, or the key of a Dict observation; for a course, what the runs did
    :param phase: ``start``, ``rollout`` or ``update``
    :param update: updates before it
    :param step: of the rollout, or of the optimizer within the update; -1: after its last
    :param envs: the envs that differ; empty for what belongs to no env
    :param n_envs: of the run; 0 for what belongs to no env
    :param size: the largest difference of the sampled values, relative to the largest of them; None where no sampled
        value differs, or there are none
    """

    kind: str
    name: str
    phase: str
    update: int
    step: int
    envs: tuple[int, ...] = ()
    n_envs: int = 0
    size: float | None = None

    @property
    def is_rounding(self) -> bool:
        """Whether it is as small as another order of the same sums makes it."""
        return self.size is not None and self.size < ROUNDING

    @property
    def what(self) -> str:
        """In words, such as ``the gradient of policy_net.0.weight``."""
        if self.kind == of.COURSE:
            return f"the course of the runs ({self.name})"
        if self.kind == of.RANDOM:
            return f"the random numbers ({self.name})"
        if self.kind == of.OBSERVATION and self.name:
            return f"the observation {self.name!r}"
        return f"the {self.kind} of {self.name}" if self.kind in (of.WEIGHT, of.GRADIENT) else f"the {self.kind}"

    @property
    def where(self) -> str:
        """In words, such as ``at step 5 of rollout 0, in env 1``."""
        if self.phase == of.START:
            place = "before the first step"
        elif self.phase == of.ROLLOUT:
            place = f"at step {self.step} of rollout {self.update}"
        elif self.step < 0:
            place = f"after update {self.update}"
        else:
            place = f"at the optimizer's step {self.step} of update {self.update}"
        return place + self._in_envs

    @property
    def _in_envs(self) -> str:
        if not self.envs:
            return ""
        if len(self.envs) == self.n_envs > 1:
            return f", in all {self.n_envs} envs"
        shown = ", ".join(map(str, self.envs[:LISTED_ENVS])) + (", …" if len(self.envs) > LISTED_ENVS else "")
        return f", in env {shown}"

    def __str__(self) -> str:
        size = "" if self.size is None else f", by {self.size:.1g} of its size"
        return f"{self.what} {self.where}{size}"


class Comparison(NamedTuple):
    """
    What a check of determinism has found; as text, a sentence, and a line for each hint.

    :param differences: the first of each kind, in the order in which the runs came to them; empty if there is none
    :param n_updates: updates that both runs have made
    :param n_compared: how many results were compared
    :param hints: what may be the cause, as far as the evidence goes
    """

    differences: tuple[Difference, ...]
    n_updates: int
    n_compared: int
    hints: tuple[str, ...] = ()

    @property
    def is_deterministic(self) -> bool:
        """Whether there is no difference."""
        return not self.differences

    @property
    def first(self) -> Difference | None:
        """The first difference."""
        return self.differences[0] if self.differences else None

    @property
    def sentence(self) -> str:
        """What was found, in a sentence or two."""
        if self.first is None:
            return (
                f"No difference: two runs of {self.n_updates} updates with the same seed agree in all "
                f"{self.n_compared:,} results that were compared, to the last bit."
            )
        others = [f"{each.what} {each.where}" for each in self.differences[1:]]
        later = f" The first others: {'; '.join(others)}." if others else ""
        return f"Two runs with the same seed differ. The first difference: {self.first}.{later}"

    def __str__(self) -> str:
        return "\n".join([self.sentence, *(f"- {hint}" for hint in self.hints)])


def compared(first: Record, second: Record) -> Comparison:
    """
    Compare two runs, without hints.

    :param first: of a run
    :param second: of the same run
    """
    found: dict[str, Difference] = {}
    n_compared = 0
    for n_compared, (one, other) in enumerate(zip(first.events, second.events, strict=False), start=1):  # noqa: B007
        if one.place != other.place:
            found.setdefault(of.COURSE, _course(one, f"{_told(one)} in one, {_told(other)} in the other"))
            break
        if one.digests != other.digests:
            found.setdefault(one.kind, _difference(one, other))
    else:
        longer = max(first.events, second.events, key=len)
        if n_compared < len(longer):
            more = longer[n_compared]
            found.setdefault(of.COURSE, _course(more, f"one has ended, {_told(more)} in the other"))
    updates = min(first.n_updates, second.n_updates)
    return Comparison(tuple(found.values()), updates, n_compared)


def _difference(one: Event, other: Event) -> Difference:
    is_by_env = one.phase != of.UPDATE and one.kind not in (of.WEIGHT, of.RANDOM)
    parts = [i for i, pair in enumerate(zip(one.digests, other.digests, strict=False)) if pair[0] != pair[1]]
    envs, n_envs = (tuple(parts), len(one.digests)) if is_by_env else ((), 0)
    return Difference(one.kind, one.name, one.phase, one.update, one.step, envs, n_envs, _size(one, other))


def _size(one: Event, other: Event) -> float | None:
    pairs = [
        pair
        for mine, theirs in zip(one.samples, other.samples, strict=False)
        for pair in zip(mine, theirs, strict=False)
    ]
    largest = max((max(abs(a), abs(b)) for a, b in pairs), default=0.0)
    difference = max((abs(a - b) for a, b in pairs), default=0.0)
    return difference / largest if difference > 0 and largest > 0 else None


def _course(event: Event, told: str) -> Difference:
    return Difference(of.COURSE, told, event.phase, event.update, event.step)


def _told(event: Event) -> str:
    return f"{event.kind} {event.name}".strip()
