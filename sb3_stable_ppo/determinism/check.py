"""
``check_determinism``: the same run twice, in this process.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, ConvertCallback

from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.determinism.comparison import Comparison, compared
from sb3_stable_ppo.determinism.events import Record
from sb3_stable_ppo.determinism.hints import with_hints
from sb3_stable_ppo.determinism.recorder import DEFAULT_UPDATES, RunRecorder

Made = BaseAlgorithm | tuple[BaseAlgorithm, Any]
"""A model, or a model and its callbacks."""


def check_determinism(
    make_model: Callable[[], Made], n_updates: int = DEFAULT_UPDATES, total_timesteps: int = 1_000_000
) -> Comparison:
    """
    Train the same model twice for a few updates, and find the first difference.

    >>> print(check_determinism(lambda: PPO("MlpPolicy", "CartPole-v1", seed=0)))  # doctest: +SKIP
    No difference: two runs of 3 updates with the same seed agree in all … results that were compared, to the last bit.

    Before each run, Python's and NumPy's global generators are as they are in a new process: seeded by nothing. What a
    script seeds itself, ``make_model`` has to seed. Afterwards they, and torch's, are as before. Both runs share this
    process, and with it ``PYTHONHASHSEED``: ``sb3-stable-ppo train --check-determinism`` gives each its own.

    :param make_model: builds all of a run anew, env included, and returns the model, or the model and the callbacks for
        ``learn()``; its env is closed afterwards
    :param n_updates: calls of ``train()`` in each run
    :param total_timesteps: for ``learn()``, as schedules depend on it; the run ends after ``n_updates``
    :return: what differs first, and hints at the cause; ``is_deterministic`` if nothing does
    :raises ValueError: if ``n_updates`` is below 1
    :raises UsageError: if the run ends before its first update, or has no optimizer
    """
    with _fresh_generators() as renew:
        records = []
        for _ in range(2):
            renew()
            records.append(_recorded(make_model(), n_updates, total_timesteps))
    return compared_runs(*records)


def compared_runs(first: Record, second: Record) -> Comparison:
    """
    Where two records of a run part, with hints at the cause.

    :param first: of a run
    :param second: of the same run
    :raises UsageError: if there was no update
    """
    if not first.n_updates and not second.n_updates:
        raise UsageError(
            "The run has ended before its first update, so that there is nothing to compare: give it more timesteps."
        )
    return with_hints(compared(first, second), first.facts, second.facts)


def _recorded(made: Made, n_updates: int, total_timesteps: int) -> Record:
    model, callback = made if isinstance(made, tuple) else (made, None)
    given = callback if isinstance(callback, Sequence) else [] if callback is None else [callback]
    callbacks = [each if isinstance(each, BaseCallback) else ConvertCallback(each) for each in given]
    recorder = RunRecorder(n_updates)
    try:
        model.learn(total_timesteps, callback=[recorder, *callbacks])
    finally:
        env = model.get_env()
        if env is not None:
            env.close()
    return recorder.record


@contextmanager
def _fresh_generators() -> Iterator[Callable[[], None]]:
    """What makes the global generators those of a new process; they are as before when the context ends."""
    python, numpy, torch = random.getstate(), np.random.get_state(), th.get_rng_state()  # noqa: NPY002

    def renew() -> None:
        random.seed()
        np.random.seed()  # noqa: NPY002
        th.set_rng_state(torch)  # torch's is the same in each new process

    try:
        yield renew
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        th.set_rng_state(torch)
