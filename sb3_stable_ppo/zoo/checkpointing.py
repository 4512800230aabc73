"""
The checkpoints of ``train``: which callback writes them, and how a signal ends a run at one of them.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import NamedTuple, TypeVar

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from tqdm import tqdm

from sb3_stable_ppo.checkpoints.callback import DEFAULT_MINUTES, RunCheckpoint
from sb3_stable_ppo.common.callbacks import callbacks_within
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.common.packages import PROGRAM
from sb3_stable_ppo.common.signals import CHECKPOINT_SIGNAL, handled, interrupt, remember
from sb3_stable_ppo.runs.folder import RunWriter

Checkpoint = TypeVar("Checkpoint", bound=RunCheckpoint)

ONE_SIGNAL_S = 1.0
"""Within so many seconds several signals are one: a scheduler's reaches a process itself and through its launcher."""


class CheckpointOptions(NamedTuple):
    """
    What the flags of ``train`` and ``tune`` say.

    :param minutes: between two checkpoints; None: 10; 0: ``steps`` alone count
    :param steps: environment steps between two checkpoints, or None
    :param replay_buffer: whether the replay buffer is saved
    """

    minutes: float | None = None
    steps: int | None = None
    replay_buffer: bool = True

    @property
    def is_asked_for(self) -> bool:
        """Whether a flag asks for checkpoints."""
        return bool(self.minutes) or self.steps is not None or not self.replay_buffer

    @property
    def are_off(self) -> bool:
        """Whether no checkpoint is to be written."""
        return self.minutes == 0 and self.steps is None

    def callback(self, kind: type[Checkpoint], folder: str) -> Checkpoint:
        """
        The callback that writes them, unless they are off.

        :param kind: its class
        :param folder: of the run
        """
        minutes = DEFAULT_MINUTES if self.minutes is None else self.minutes
        return kind(self.steps, minutes or None, folder=folder, replay_buffer=self.replay_buffer)


def with_checkpoint(
    callbacks: Sequence[BaseCallback], algorithm: type[BaseAlgorithm], options: CheckpointOptions, folder: str
) -> list[BaseCallback]:
    """
    Callbacks with a RunCheckpoint as the last of them: that of the YAML file, or else a new one. Where there is none to
    be, they are returned as they are.

    :param callbacks: those of the YAML file, of rl_zoo3 and of our flags
    :param algorithm: that is trained
    :param options: the flags
    :param folder: of the run
    :raises UsageError: if checkpoints are asked for and cannot be written, or flags contradict the YAML file
    """
    own = next((each for each in callbacks if isinstance(each, RunCheckpoint)), None)
    if own is not None:
        if options != CheckpointOptions():
            raise UsageError(
                "The flags for checkpoints and the RunCheckpoint of the configuration's callback contradict each "
                "other: leave one of them out."
            )
        return [*(each for each in callbacks if each is not own), own]
    if not issubclass(algorithm, (OnPolicyAlgorithm, OffPolicyAlgorithm)):
        if options.is_asked_for:
            raise UsageError(
                f"{algorithm.__name__} is neither an on-policy nor an off-policy algorithm of SB3, and there are no "
                "checkpoints of it: leave the flags for checkpoints out."
            )
        return list(callbacks)
    if options.are_off:
        return list(callbacks)
    return [*callbacks, options.callback(RunCheckpoint, folder)]


def checkpoint_of(callbacks: Sequence[BaseCallback]) -> RunCheckpoint | None:
    """
    The RunCheckpoint among callbacks.

    :param callbacks: may have others within
    """
    return next((each for one in callbacks for each in callbacks_within(one) if isinstance(each, RunCheckpoint)), None)


def announce_resuming(checkpoint: RunCheckpoint | None, run: RunWriter, verbose: int) -> None:
    """
    Tell in ``run.json`` whether a run goes on exactly, and in one line why not, instead of a warning.

    :param checkpoint: of the run
    :param run: whose ``run.json`` it is
    :param verbose: SB3's verbosity; 0: only ``run.json`` tells
    """

    def announce(problems: Sequence[str]) -> None:
        told = f"continues, not bit for bit: {'; '.join(problems)}" if problems else "exact"
        run.describe(resume=told)
        if problems and verbose > 0:
            tqdm.write(f"Checkpoints: a run that is resumed from them {told}.")

    if checkpoint is None:
        run.describe(resume="no checkpoints")
    else:
        checkpoint.announce = announce


class Signals:
    """
    What signals do while a model trains. SIGTERM and Ctrl-C (SIGINT) let the rollout and its update end, then a
    checkpoint is written and training is interrupted; a second one interrupts at once. Where that update was the run's
    last, the signal is remembered for whoever began the run. SIGUSR1 asks for a checkpoint.

    :param checkpoint: of the run; None: signals do what they did before
    """

    def __init__(self, checkpoint: RunCheckpoint | None) -> None:
        self._checkpoint = checkpoint
        self.stopped_by: signal.Signals | None = None
        """The signal that has asked training to stop."""

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle them within the block, in the main thread."""
        with ExitStack() as handlers:
            if self._checkpoint is not None:
                for number in (signal.SIGTERM, signal.SIGINT):
                    handlers.enter_context(handled(number, self._stop))
                if CHECKPOINT_SIGNAL is not None:
                    handlers.enter_context(handled(CHECKPOINT_SIGNAL, self._save))
            yield

    def _stop(self, number: int, *_: object) -> None:
        assert self._checkpoint is not None
        now = time.monotonic()
        if self.stopped_by is None:
            self._stopped_at, self.stopped_by = now, signal.Signals(number)
            remember(number)
            self._checkpoint.request(then=partial(interrupt, number))
            _tell(f"{self.stopped_by.name}: training ends after this update, with a checkpoint; again: at once.")
        elif now - self._stopped_at >= ONE_SIGNAL_S:
            interrupt(number)

    def _save(self, *_: object) -> None:
        assert self._checkpoint is not None
        self._checkpoint.request()


def _tell(sentence: str) -> None:
    """From a signal's handler, which must not enter a stream that it has interrupted."""
    with suppress(OSError):  # a terminal that is gone
        os.write(sys.__stderr__.fileno() if sys.__stderr__ is not None else 2, f"\n{PROGRAM}: {sentence}\n".encode())
