"""
What a run has done, event by event, as checksums: a record of it is small, and two of them can be compared.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch as th

RANDOM, WEIGHT, OBSERVATION, MASK = "random numbers", "weight", "observation", "action mask"
VALUE, ACTION, LOG_PROB, REWARD, DONE, GRADIENT = "value", "action", "log-prob", "reward", "done", "gradient"
COURSE = "course"
"""The kind of a difference, not of an event: the two runs have not done the same things in the same order."""
START, ROLLOUT, UPDATE = "start", "rollout", "update"
SAMPLED = 32
"""Values kept of each array, evenly spread; their differences tell rounding from other numbers."""


class Event(NamedTuple):
    """
    Something that was computed in a run.

    :param phase: ``start``, ``rollout`` or ``update``
    :param update: updates before it, of rollout and update alike
    :param step: of the rollout, or the optimizer's in this update; -1: after the last
    :param kind: what it is
    :param name: of the tensor, the generator, or the key of a Dict observation; empty where the kind says all
    :param digests: of the bytes; for what envs have to do with, one for each env
    :param samples: some values for each digest
    """

    phase: str
    update: int
    step: int
    kind: str
    name: str
    digests: tuple[str, ...]
    samples: tuple[tuple[float, ...], ...] = ()

    @property
    def place(self) -> tuple[str, int, int, str, str]:
        """All but what was computed."""
        return self[:5]


class Record(NamedTuple):
    """
    A run of some updates.

    :param events: in their order
    :param facts: of the machine, the settings, and what in the run acts by the clock
    """

    events: list[Event]
    facts: dict[str, Any]

    @property
    def n_updates(self) -> int:
        """Updates that have ended, each with the weights after it."""
        ends = {event.update for event in self.events if event.phase == UPDATE and event.step == -1}
        return len(ends)


def by_env(values: Any) -> tuple[tuple[str, ...], tuple[tuple[float, ...], ...]]:
    """
    Digests and samples of each env's part.

    :param values: an array or a tensor whose first dimension is the envs
    """
    rows = _array(values)
    return tuple(map(_digest, rows)), tuple(map(_sample, rows))


def whole(values: Any) -> tuple[tuple[str, ...], tuple[tuple[float, ...], ...]]:
    """
    Digest and sample of an array or a tensor.

    :param values: of any shape
    """
    array = _array(values)
    return (_digest(array),), (_sample(array),)


def of_text(text: str) -> tuple[str, ...]:
    """
    The digest of a state.

    :param text: that tells two states apart
    """
    return (hashlib.blake2b(text.encode(), digest_size=8).hexdigest(),)


def write_record(path: Path, record: Record) -> None:
    """
    :param path: of a new file
    :param record: of a run
    """
    with path.open("w", encoding="utf-8") as file:
        for each in (record.facts, *record.events):
            file.write(json.dumps(each) + "\n")


def read_record(path: Path) -> Record:
    """
    :param path: of a file that :func:`write_record` has written
    """
    with path.open(encoding="utf-8") as file:
        facts, *lines = map(json.loads, file)
    events = []
    for phase, update, step, kind, name, digests, samples in lines:
        events.append(Event(phase, update, step, kind, name, tuple(digests), tuple(map(tuple, samples))))
    return Record(events, facts)


def _array(values: Any) -> np.ndarray[Any, Any]:
    if isinstance(values, th.Tensor):
        values = values.detach().cpu()
        # numpy has no bfloat16; float32 holds each of its values
        return np.asarray((values.float() if values.dtype == th.bfloat16 else values).numpy())
    return np.asarray(values)


def _digest(array: Any) -> str:
    array = np.ascontiguousarray(array)
    head = f"{array.dtype.str}{array.shape}".encode()
    return hashlib.blake2b(head + array.tobytes(), digest_size=8).hexdigest()


def _sample(array: Any) -> tuple[float, ...]:
    flat = np.ravel(array)
    chosen = np.linspace(0, flat.size - 1, min(SAMPLED, flat.size)).astype(int)
    return tuple(float(value) for value in flat[chosen])
