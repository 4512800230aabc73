"""
The callback that writes checkpoints from which a run goes on exactly.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch as th
from stable_baselines3.common.callbacks import EventCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_stable_ppo.checkpoints.callback_state import callback_states, set_callback_states, stateful_callbacks
from sb3_stable_ppo.checkpoints.env_state import env_state
from sb3_stable_ppo.checkpoints.folder import CHECKPOINTS, clear_partial, prune, set_aside_later, writing
from sb3_stable_ppo.checkpoints.logs import ContinuedLogger, save_logs, set_pending
from sb3_stable_ppo.checkpoints.manifest import facts_of
from sb3_stable_ppo.checkpoints.model_state import (
    has_replay_buffer,
    model_state,
    save_replay_buffer,
    set_noise,
)
from sb3_stable_ppo.checkpoints.random_state import random_state, set_random_state
from sb3_stable_ppo.common.callbacks import callbacks_within
from sb3_stable_ppo.common.checks import number, whole_number
from sb3_stable_ppo.common.errors import described
from sb3_stable_ppo.common.lazy import public
from sb3_stable_ppo.runs.callback import RunCallback

DEFAULT_MINUTES = 10.0
OPTIONS = ("every", "every_minutes", "keep", "replay_buffer")
"""Those that a run which is resumed goes on with."""
HARMLESS = ("ProgressBarCallback", "CallbackList")
"""What may come after RunCheckpoint in the list of callbacks."""


@public
class RunCheckpoint(RunCallback):
    """
    Writes checkpoints from which :func:`~sb3_stable_ppo.checkpoints.resuming.resume` goes on as if the run had never
    stopped: to the last bit on a CPU, where the env can be saved.

    >>> model.learn(1_000_000, callback=[..., RunCheckpoint(every=50_000)])  # doctest: +SKIP

    It writes between two updates, at the next ``on_rollout_start`` after a checkpoint is due, and at the end of
    training. SB3's CheckpointCallback writes within a rollout, whose steps are then counted and lost. Each checkpoint
    is a folder ``checkpoints/<step>`` in the run folder, written aside, synced to the disk and renamed. Where one
    cannot be written, a warning says so and training goes on. It draws no random number, and training is the same with
    it.

    :param every: environment steps between two checkpoints; None: see ``every_minutes``
    :param every_minutes: minutes between two checkpoints; None: 10 where ``every`` is not given either. With both, what
        comes first counts
    :param keep: how many of the last checkpoints stay
    :param folder: the run folder; None: the logger's (``tensorboard_log``, or that of ``set_logger``)
    :param replay_buffer: off-policy, whether the replay buffer is saved; without it the run goes on with an empty one
    :param verbose: SB3's verbosity; 1 tells of each checkpoint
    :raises ValueError: for a number out of range; when training starts, if there is no run folder, if other callbacks
        come after it in the list, or for an algorithm that is neither on-policy nor off-policy
    """

    parts: ClassVar[tuple[str, ...]] = (CHECKPOINTS,)

    def __init__(
        self,
        every: int | None = None,
        every_minutes: float | None = None,
        keep: int = 3,
        folder: str | Path | None = None,
        replay_buffer: bool = True,
        verbose: int = 0,
    ) -> None:
        super().__init__(folder, verbose=verbose)
        self.every = None if every is None else whole_number(every, "every", 1)
        if every is None and every_minutes is None:
            every_minutes = DEFAULT_MINUTES
        self.every_minutes = None if every_minutes is None else number(every_minutes, "every_minutes")
        if self.every_minutes == 0:
            raise ValueError(
                "every_minutes=0 would write at every update: give every=1 for that, or leave RunCheckpoint out."
            )
        self.keep = whole_number(keep, "keep", 1)
        self.replay_buffer = replay_buffer
        self.announce: Callable[[Sequence[str]], None] = warn_of_problems
        """Called when training starts, with what keeps a resumed run from going on exactly, in words."""
        self._root: Path | None = None
        self._goes_on: dict[str, Any] | None = None
        self._requested = False
        self._then: Callable[[], object] | None = None

    def request(self, then: Callable[[], object] | None = None) -> None:
        """
        Ask for a checkpoint at the next update boundary, whatever the intervals; also from a signal handler.

        :param then: called once it is written, or could not be; it may end training with an exception
        """
        self._requested, self._then = True, then or self._then

    def close(self) -> None:
        """Write nothing more: training was broken off somewhere between two update boundaries."""
        self._root = None

    def continue_from(self, state: dict[str, Any]) -> None:
        """
        Go on from a checkpoint when training starts; :func:`~sb3_stable_ppo.checkpoints.resuming.restore` calls it.

        :param state: the content of its ``state.pt``
        """
        self._goes_on = state

    def _without_folder(self) -> str:
        return "it can write no checkpoint"

    def _on_training_start(self) -> None:
        self._check()
        super()._on_training_start()
        self._root = None if self.writer.folder is None else Path(self.writer.folder) / CHECKPOINTS
        if self._root is not None:
            clear_partial(self._root)
            set_aside_later(self._root, self.num_timesteps, is_resumed=self._goes_on is not None)
        self._saved_at, self._saved_time = self.num_timesteps, time.monotonic()
        self._finished_rollouts, self._is_between = -1, True
        self._others = stateful_callbacks(self.locals.get("callback"))
        if self._goes_on is None:
            self.announce(self._problems())
        else:
            if "action_noise" in vars(self.model):
                vars(self.model)["action_noise"] = self._goes_on["model"]["action_noise"]  # learn() has reset its own
            if self._goes_on["is_end"]:
                self._continue()

    def _on_rollout_start(self) -> None:
        self._finished_rollouts += 1
        then, self._then = self._then, None  # first: a request that comes from here on waits for the next boundary
        if self._goes_on is not None:
            self._continue()
        elif self._is_due():
            self.save()
        if then is not None:
            then()
        self._is_between = False

    def _on_rollout_end(self) -> None:
        self._is_between = True

    def _on_training_end(self) -> None:
        # rl_zoo3 calls it even where training has not begun; and a run that a callback ended has half a rollout
        has_begun = getattr(self, "_is_between", False) and self._goes_on is None
        if has_begun and self.model.num_timesteps > self._saved_at:
            self._finished_rollouts += 1
            self.save(is_end=True)
        if has_begun and isinstance(self.logger, ContinuedLogger):
            self.logger.iterations = 0  # a next learn() counts from 1, as SB3 does

    def save(self, is_end: bool = False) -> None:
        """
        Write a checkpoint now; only between two updates is it one from which the run goes on exactly.

        :param is_end: whether training has ended
        """
        if self._root is None:
            return
        step = self.model.num_timesteps
        self._saved_at, self._saved_time, self._requested = step, time.monotonic(), False
        facts: dict[str, Any] = {}
        try:
            with writing(self._root, step, facts) as folder:
                facts.update(self._write(folder, is_end))
            prune(self._root, self.keep)
        except Exception as error:  # a full disk, too little memory, or whatever pickling a user's object may raise
            warnings.warn(
                f"The checkpoint at step {step:,} could not be written ({described(error, 200)}). Training goes on; "
                "the next is tried when it is due.",
                stacklevel=2,
            )
            return
        if self.verbose:
            print(f"Checkpoint at step {step:,}: {self._root / f'{step:012d}'}")

    def _check(self) -> None:
        name = type(self.model).__name__
        if not isinstance(self.model, (OnPolicyAlgorithm, OffPolicyAlgorithm)):
            raise ValueError(f"RunCheckpoint serves on- and off-policy algorithms; {name} is neither: leave it out.")
        if isinstance(self.parent, EventCallback):
            raise ValueError(
                f"RunCheckpoint writes nothing within {type(self.parent).__name__}, which tells it of steps alone. "
                "Give it to learn() as the last of the callbacks; its every= says how often it writes."
            )
        listed = list(callbacks_within(self.locals.get("callback")))
        own = listed.index(self) if self in listed else len(listed)
        after = [each for each in listed[own + 1 :] if type(each).__name__ not in HARMLESS]
        if after:
            raise ValueError(
                f"RunCheckpoint must be the last of the callbacks, as those after it, {type(after[0]).__name__} here, "
                "would act on an update twice in a run that is resumed. Put it at the end of the list."
            )
        if self._run_folder() is None:
            raise ValueError(
                "RunCheckpoint has no folder to write to: give RunCheckpoint(folder=...), or the algorithm a "
                "tensorboard_log."
            )

    def _is_due(self) -> bool:
        if self._requested:
            return True
        steps, seconds = self.model.num_timesteps - self._saved_at, time.monotonic() - self._saved_time
        by_steps = self.every is not None and steps >= self.every
        return steps > 0 and (by_steps or (self.every_minutes is not None and seconds >= 60 * self.every_minutes))

    def _problems(self) -> list[str]:
        problems = env_state(self.training_env, self.model.action_space).problems + callback_states(self._others)[1]
        if has_replay_buffer(self.model) and not self.replay_buffer:
            problems.append("the replay buffer is left out, as replay_buffer=False asks")
        return problems

    def _write(self, folder: Path, is_end: bool) -> dict[str, Any]:
        """:return: for the manifest"""
        model, run_folder = self.model, Path(self.writer.folder or ".")
        model.save(folder / "model.zip")
        env = env_state(self.training_env, model.action_space)
        (folder / "env.pkl").write_bytes(env.content)
        has_buffer = self.replay_buffer and save_replay_buffer(model, folder / "replay.pkl")
        callbacks, problems = callback_states(self._others)
        writers = [getattr(each, "writer", None) for each in self._others]
        folders = [getattr(writer, "folder", None) for writer in writers]
        logs, log_problems = save_logs(model.logger, run_folder, filter(None, folders), folder / "logs")
        state = {
            "model": model_state(model),
            "callbacks": callbacks,
            "logs": logs,
            "random": random_state(model.action_space),
            "iterations": self._finished_rollouts,
            "is_end": is_end,
        }
        th.save(state, folder / "state.pt")
        not_saved = [*env.problems, *problems, *log_problems]
        if has_replay_buffer(model) and not has_buffer:
            not_saved.append("the replay buffer")
        options = {name: getattr(self, name) for name in OPTIONS}
        return facts_of(model, self.locals, options, env_is_saved=not env.problems, not_saved=not_saved)

    def _continue(self) -> None:
        """The last thing before the run goes on; random states come last, as all else may draw from them."""
        state, self._goes_on = self._goes_on, None
        assert state is not None
        set_callback_states(self._others, state["callbacks"])
        set_pending(self.logger, state["logs"])
        set_noise(self.model, state["model"])
        self._finished_rollouts = state["iterations"] - state["is_end"]
        set_random_state(state["random"], self.model.action_space)


def warn_of_problems(problems: Sequence[str]) -> None:
    """
    Warn if there are any.

    :param problems: what keeps a resumed run from going on exactly, in words
    """
    if problems:
        warnings.warn(
            f"A run that is resumed from these checkpoints continues, not bit for bit: {'; '.join(problems)}.",
            stacklevel=3,
        )
