"""
The undo: an update that moves the policy too far, kills units or breaks weights is taken back and tried again at a
lower learning rate.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_stable_ppo.common.errors import CollapseError, one_line
from sb3_stable_ppo.common.log_formats import TABLE
from sb3_stable_ppo.common.patching import uncompiled
from sb3_stable_ppo.common.tensors import all_finite, first_nonfinite, is_broken_distribution
from sb3_stable_ppo.guards.arithmetic import next_scale
from sb3_stable_ppo.guards.backup import Backup
from sb3_stable_ppo.guards.broken_rollout import why_outputs_are_not_finite
from sb3_stable_ppo.guards.config import GuardConfig
from sb3_stable_ppo.guards.module_state import is_floating_tensor, state_of
from sb3_stable_ppo.guards.movement import Movement, kl_between, movement
from sb3_stable_ppo.guards.reading import Reading, draw_probe_batch, read
from sb3_stable_ppo.guards.statistics import move_statistics
from sb3_stable_ppo.guards.update import GuardedUpdate
from sb3_stable_ppo.probes.activations import ActivationProbe
from sb3_stable_ppo.schedules.kl_adaptive import KLAdaptiveLR
from sb3_stable_ppo.schedules.learning_rate import counting_schedule

BROKEN_OUTPUTS = "the weights are finite, and what the policy puts out is not"
CHANGED_SINCE = (
    "It could act in the rollout that has just ended: look at the callbacks that change the policy when a rollout ends."
)


class UndoMixin(OnPolicyAlgorithm):
    """
    Mixin for PPO, MaskablePPO and RecurrentPPO: a ``train()`` that takes back what collapses the network.

    :param args: the arguments of the algorithm
    :param kwargs: the keyword arguments of the algorithm
    """

    guards: GuardConfig | Mapping[str, Any] | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Before super().__init__, which may build the model at once; `load` sets them anew before _setup_model.
        self._lr_scale = 1.0
        self._scale_moves = False
        self._undone_updates = 0
        self._dropped_updates = 0
        self._consecutive_skips = 0
        self.intervention_memory: dict[str, Any] = {}
        super().__init__(*args, **kwargs)

    def _setup_model(self) -> None:
        self._warned: set[str] = set()
        self._backup: Backup | None = None
        self._check_gradients = False
        self._error: ValueError | None = None
        self._reward_scale = 1.0
        super()._setup_model()

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_warned", "_backup", "_check_gradients", "_error", "_reward_scale"]

    def _setup_learn(
        self, total_timesteps: int, callback: Any = None, reset_num_timesteps: bool = True, *args: Any, **kwargs: Any
    ) -> Any:
        if reset_num_timesteps:  # a new run begins at the rate that it was given, and fails on its own account
            self._lr_scale, self._scale_moves = 1.0, False
            self._consecutive_skips = 0
        return super()._setup_learn(total_timesteps, callback, reset_num_timesteps, *args, **kwargs)

    def _update_learning_rate(self, optimizers: Any) -> None:
        super()._update_learning_rate(optimizers)
        guards = GuardConfig.of(self.guards)
        if self._lr_scale == 1.0 or guards is None or not guards.undo:
            return
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            for group in optimizer.param_groups:
                group["lr"] *= self._lr_scale
                self.logger.record("train/learning_rate", group["lr"])

    def _train_or_undo(self, guards: GuardConfig) -> tuple[GuardedUpdate, str | None]:
        """
        One ``train()`` whose outcome is judged, and tried again where it is taken back.

        :param guards: the bounds
        :return: the last attempt; and why it was dropped, in words, or None where it was kept
        :raises CollapseError: if the policy's outputs are not finite before the update
        """
        policy = uncompiled(self.policy)
        rows = draw_probe_batch(self.rollout_buffer, guards.probe_rows)
        probe = ActivationProbe(policy)
        before = self._read_if_finite(rows, probe)
        if before is None:
            why = why_outputs_are_not_finite(policy, self._last_obs, self.num_timesteps)
            raise CollapseError(f"{why} {CHANGED_SINCE}") from self._error
        remembered = self.intervention_memory
        if self._backup is None or self._backup.policy is not policy or self._backup.remembered is not remembered:
            self._backup = Backup(policy, remembered)
        else:
            self._backup.take()
        backup, n_updates = self._backup, self._n_updates
        after: Reading | None = None

        def put_back() -> None:
            backup.restore()
            self._n_updates = n_updates
            self.logger.record("train/n_updates", n_updates, exclude="tensorboard")

        try:
            for _ in range(guards.max_retries + 1):
                update = GuardedUpdate(self, guards, self._warn_once, self._check_gradients)
                problem, kl = self._attempt(update, backup), math.nan
                if problem is not None and not self._check_gradients:
                    # It may have been one gradient: from here on each is looked at, and its step skipped in time
                    self._check_gradients = True
                    put_back()
                    self._warn_once("rerun", f"{problem}. The update is run again with each gradient looked at.")
                    update = GuardedUpdate(self, guards, self._warn_once)
                    problem = self._attempt(update, backup)
                if problem is None:
                    after = self._read_if_finite(rows, probe)
                    if after is None:
                        problem = BROKEN_OUTPUTS
                    else:
                        moved = movement(before, after, rows)
                        self._record(moved)
                        kl, problem = moved.kl, moved.why_too_far(guards)
                if problem is None:
                    break
                put_back()
                self._undone_updates += 1
                self._halve_learning_rate()
                self._warn_once("undo", f"An update was undone: {problem}. The learning rate is halved.")
        except BaseException:  # Ctrl-C, or a bug: whoever saves the model now gets the weights from before the update
            put_back()
            raise
        if problem is None and after is not None:
            self._move_statistics(guards, rows, probe, after)
            if self._scale_moves:
                self._lr_scale = next_scale(self._lr_scale, kl)
        self._dropped_updates += problem is not None
        return update, problem

    def _halve_learning_rate(self) -> None:
        """
        By the schedule itself, if it follows the KL of updates too; for all others, and below its bound, by a scale of
        the guards' own.
        """
        schedule = counting_schedule(self.learning_rate)
        left = schedule.lower(2.0) if isinstance(schedule, KLAdaptiveLR) else 2.0
        if left > 1.0:
            self._lr_scale /= left
            self._scale_moves = True

    def _attempt(self, update: GuardedUpdate, backup: Backup) -> str | None:
        """One guarded ``train()``; what broke, in words, or None."""
        self._error = None
        try:
            with update:
                super().train()
        except CollapseError:
            raise
        except ValueError as error:
            if not is_broken_distribution(error):
                raise
            self._error = error
            return f"train() failed: {one_line(error, 300)}"
        policy = uncompiled(self.policy)
        state = {name: tensor for name, tensor in state_of(policy).items() if is_floating_tensor(tensor)}
        if all_finite(list(state.values())):
            return None
        # A buffer that was not finite before, such as a mask of -inf, or was not there, is meant to be so; no weight is
        weights = {name for name, _ in policy.named_parameters()}
        before = backup.state
        meant = {name for name in state if name not in weights and not (name in before and all_finite([before[name]]))}
        return first_nonfinite({name: tensor for name, tensor in state.items() if name not in meant})

    def _read_if_finite(self, rows: Any, probe: ActivationProbe) -> Reading | None:
        """The policy's reading; None if its outputs are not finite, as those of finite weights can be that are huge."""
        try:
            return read(uncompiled(self.policy), probe, rows, self.action_space)
        except ValueError as error:
            if not is_broken_distribution(error):
                raise
            self._error = error
            return None

    def _move_statistics(self, guards: GuardConfig, rows: Any, probe: ActivationProbe, after: Reading) -> None:
        """What our policies do by themselves before the next rollout, done now: measured, and bounded."""

        def kl_now() -> float:
            moved = self._read_if_finite(rows, probe)
            return math.inf if moved is None else kl_between(after, moved, rows)

        kl = move_statistics(uncompiled(self.policy), kl_now, guards.max_statistics_kl)
        if kl is not None:
            self.logger.record("norm/commit_kl", kl)

    def _record(self, moved: Movement) -> None:
        self.logger.record("guards/update_kl", moved.kl, exclude=TABLE)
        self.logger.record("guards/lost_unit_fraction", moved.lost, exclude=TABLE)
        self.logger.record("guards/newly_inactive_fraction", moved.inactive, exclude=TABLE)

    def _warn_once(self, kind: str, text: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            warnings.warn(f"{text} Further occurrences are only counted, under guards/ in the log.", stacklevel=3)
