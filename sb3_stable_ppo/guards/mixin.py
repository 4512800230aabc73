"""
Guards around SB3's own ``train()``: they act on numbers that would break PPO and leave all others bit for bit alone.

Inside stands :class:`~sb3_stable_ppo.guards.update.GuardedUpdate`, one ``train()`` with its inputs guarded. Around it
stands the undo: an update that moves the policy too far, kills units or breaks weights is taken back and tried again at
a lower learning rate.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_stable_ppo.common.errors import CollapseError, one_line
from sb3_stable_ppo.common.log_formats import TABLE
from sb3_stable_ppo.common.tensors import all_finite, first_nonfinite, is_broken_distribution
from sb3_stable_ppo.guards.arithmetic import lost_unit_fraction, newly_inactive_fraction, next_scale
from sb3_stable_ppo.guards.backup import Backup
from sb3_stable_ppo.guards.broken_rollout import why_outputs_are_not_finite
from sb3_stable_ppo.guards.checked_env import CheckedVecEnv
from sb3_stable_ppo.guards.checked_step import checked_below
from sb3_stable_ppo.guards.config import DEFAULT_GUARDS, GuardConfig
from sb3_stable_ppo.guards.model_format import FORMAT, check_format, check_policy
from sb3_stable_ppo.guards.one_learn import OneLearn
from sb3_stable_ppo.guards.reading import Reading, draw_probe_batch, dump_minibatch, read, row_mask
from sb3_stable_ppo.guards.statistics import move_statistics
from sb3_stable_ppo.guards.update import GuardedUpdate
from sb3_stable_ppo.metrics.kl import mean_kl
from sb3_stable_ppo.probes.activations import ActivationProbe
from sb3_stable_ppo.schedules.kl_adaptive import KLAdaptiveLR
from sb3_stable_ppo.schedules.learning_rate import counting_schedule

BROKEN_OUTPUTS = "the weights are finite, and what the policy puts out is not"


class GuardMixin(OnPolicyAlgorithm):
    """
    Mixin for PPO, MaskablePPO and RecurrentPPO: ``guards`` as a keyword, and a guarded ``train()``.

    What is logged under ``guards/`` and ``norm/`` is listed in docs/guards.md.

    :param args: the arguments of the algorithm
    :param guards: a :class:`~sb3_stable_ppo.guards.config.GuardConfig`, a dict with its fields, or None: stock training
    :param kwargs: the keyword arguments of the algorithm
    """

    normalize_advantage: bool

    def __init__(
        self, *args: Any, guards: GuardConfig | Mapping[str, Any] | None = DEFAULT_GUARDS, **kwargs: Any
    ) -> None:
        # Before super().__init__, which may build the model at once; `load` sets it anew before _setup_model.
        self.guards = guards
        self.format_version: int = FORMAT
        self._lr_scale = 1.0
        self._scale_moves = False
        self._undone_updates = 0
        self._dropped_updates = 0
        self._consecutive_skips = 0
        self.intervention_memory: dict[str, Any] = {}
        super().__init__(*args, **kwargs)

    def _setup_model(self) -> None:
        check_format(self.format_version)  # `load` has set what the zip has
        check_policy(self)
        self.format_version = FORMAT
        self.guards = GuardConfig.of(self.guards)
        self._warned: set[str] = set()
        self._checked_env: CheckedVecEnv | None = None
        self._backup: Backup | None = None
        self._check_gradients = False
        self._error: ValueError | None = None
        super()._setup_model()

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_warned", "_checked_env", "_backup", "_check_gradients", "_error"]

    def save(self, path: str | Path | BufferedIOBase, *args: Any, **kwargs: Any) -> None:
        """
        SB3's, with the guards as plain numbers: stock SB3 loads the zip even where this package is not installed.

        :param path: of the zip
        :param args: SB3's
        :param kwargs: SB3's
        """
        given = self.guards
        guards = GuardConfig.of(given)
        try:
            self.guards = None if guards is None else asdict(guards)
            super().save(path, *args, **kwargs)
        finally:
            self.guards = given

    # -- while collecting ----------------------------------------------------------------------------------------------

    def collect_rollouts(self, env: Any, *args: Any, **kwargs: Any) -> bool:
        """
        SB3's, on an env whose observations and rewards are checked, below ``VecNormalize`` too: one bad reward would
        poison GAE's whole past.

        :raises CollapseError: where an observation is not finite and the rule is ``raise``, or the policy cannot act
        """
        guards = GuardConfig.of(self.guards)
        if guards is None:
            return super().collect_rollouts(env, *args, **kwargs)
        if self._checked_env is None or self._checked_env.venv is not env:
            self._checked_env = CheckedVecEnv(env, self._warn_once)
        checked, rule, step = self._checked_env, guards.on_nonfinite_obs, self.num_timesteps
        self._last_obs = checked.begin(rule, step, self._last_obs)
        with checked_below(env, rule, step, OneLearn(self), self._warn_once) as below:
            try:
                goes_on = super().collect_rollouts(checked, *args, **kwargs)
            except (ValueError, RuntimeError) as error:
                if not is_broken_distribution(error):
                    raise
                why = why_outputs_are_not_finite(self.policy, self._last_obs, self.num_timesteps)
                raise CollapseError(why) from error
        if goes_on:
            for each in (checked, *below):
                each.end()
        for each in below:
            checked.bad_rewards += each.bad_rewards
            checked.bad_observations += each.bad_observations
        return goes_on

    # -- while updating ------------------------------------------------------------------------------------------------

    def _update_learning_rate(self, optimizers: Any) -> None:
        super()._update_learning_rate(optimizers)
        guards = GuardConfig.of(self.guards)
        if self._lr_scale == 1.0 or guards is None or not guards.undo:
            return
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            for group in optimizer.param_groups:
                group["lr"] *= self._lr_scale
                self.logger.record("train/learning_rate", group["lr"])

    def train(self) -> None:
        """
        SB3's ``train()``, guarded, and undone if it collapses the network.

        :raises CollapseError: after ``max_consecutive_skips`` updates in a row that were dropped or wholly skipped
        :raises RuntimeError: if another version's ``train()`` does not call what the guards stand in for
        """
        guards = GuardConfig.of(self.guards)
        if guards is None:
            super().train()
        elif guards.undo:
            self._train_or_undo(guards)
        else:
            with GuardedUpdate(self, guards, self._warn_once) as update:
                super().train()
            self._finish(guards, update, None)

    def _train_or_undo(self, guards: GuardConfig) -> None:
        rows = draw_probe_batch(self.rollout_buffer, guards.probe_rows)
        probe = ActivationProbe(self.policy)
        before = read(self.policy, probe, rows, self.action_space)
        remembered = self.intervention_memory
        if self._backup is None or self._backup.policy is not self.policy or self._backup.remembered is not remembered:
            self._backup = Backup(self.policy, remembered)
        else:
            self._backup.take()
        backup, n_updates = self._backup, self._n_updates
        after: Reading | None = None

        def put_back() -> None:
            backup.restore()
            self._n_updates = n_updates

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
                        kl = mean_kl(before.distributions, after.distributions, row_mask(rows))
                        problem = self._judge(guards, before, after, kl)
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
        self._finish(guards, update, problem)

    def _halve_learning_rate(self) -> None:
        """By the schedule itself, if it follows the KL of updates too; otherwise by a scale of the guards' own."""
        schedule = counting_schedule(self.learning_rate)
        if isinstance(schedule, KLAdaptiveLR):
            schedule.lower(2.0)
        else:
            self._lr_scale /= 2
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
        state = {name: tensor for name, tensor in self.policy.state_dict().items() if tensor.is_floating_point()}
        if all_finite(list(state.values())):
            return None
        # A buffer that was not finite before, such as a mask of -inf, is meant to be so; a weight never is
        weights = {name for name, _ in self.policy.named_parameters()}
        meant = {name for name in state if name not in weights and not all_finite([backup.tensors[name]])}
        return first_nonfinite({name: tensor for name, tensor in state.items() if name not in meant})

    def _read_if_finite(self, rows: Any, probe: ActivationProbe) -> Reading | None:
        """The policy's reading; None if its outputs are not finite, as those of finite weights can be that are huge."""
        try:
            return read(self.policy, probe, rows, self.action_space)
        except ValueError as error:
            if not is_broken_distribution(error):
                raise
            self._error = error
            return None

    def _move_statistics(self, guards: GuardConfig, rows: Any, probe: ActivationProbe, after: Reading) -> None:
        """What our policies do by themselves before the next rollout, done now: measured, and bounded."""

        def kl_now() -> float:
            moved = self._read_if_finite(rows, probe)
            return math.inf if moved is None else mean_kl(after.distributions, moved.distributions, row_mask(rows))

        kl = move_statistics(self.policy, kl_now, guards.max_statistics_kl)
        if kl is not None:
            self.logger.record("norm/commit_kl", kl)

    def _judge(self, guards: GuardConfig, before: Reading, after: Reading, kl: float) -> str | None:
        """Whether an update went too far; how, in words, or None."""
        lost, layer = lost_unit_fraction(before.spread, after.spread)
        inactive, inactive_layer = newly_inactive_fraction(before.positive, after.positive)
        self.logger.record("guards/update_kl", kl, exclude=TABLE)
        self.logger.record("guards/lost_unit_fraction", lost, exclude=TABLE)
        self.logger.record("guards/newly_inactive_fraction", inactive, exclude=TABLE)
        if not kl <= guards.max_kl:  # not "kl >": a KL of NaN is too large as well
            return f"it moved the policy by a KL of {kl:.3g}, more than max_kl {guards.max_kl:g}"
        if lost > guards.max_lost_unit_fraction:
            return (
                f"{lost:.0%} of the live units of {layer} died, more than max_lost_unit_fraction "
                f"{guards.max_lost_unit_fraction:.0%}"
            )
        if inactive > guards.max_newly_inactive_fraction:
            return (
                f"{inactive:.0%} of the units of {inactive_layer} are positive on no row any more, more than "
                f"max_newly_inactive_fraction {guards.max_newly_inactive_fraction:.0%}"
            )
        return None

    def _finish(self, guards: GuardConfig, update: GuardedUpdate, problem: str | None) -> None:
        """Log what was seen, and stop where no update gets through any more."""
        checked = self._checked_env
        figures = {
            "log_ratio_clamp_fraction": update.clamped / max(update.rows, 1),
            "nonfinite_log_ratios": update.nonfinite,
            "advantage_std_skips": update.advantage_std_skips,
            "skipped_steps": update.skipped_steps,
            "nonfinite_rewards": int(checked.bad_rewards.sum()) if checked else 0,
            "nonfinite_observations": int(checked.bad_observations.sum()) if checked else 0,
            "undone_updates": self._undone_updates,
            "dropped_updates": self._dropped_updates,
            "lr_scale": self._lr_scale,
        }
        self.logger.record("guards/raw_approx_kl", update.raw_approx_kl, exclude=TABLE)
        for name, value in figures.items():
            is_idle = value == (1 if name == "lr_scale" else 0)
            self.logger.record(f"guards/{name}", value, exclude=TABLE if is_idle else None)
        if update.first_ratio_error is not None:
            self.logger.record("norm/first_ratio_error", update.first_ratio_error)

        wholly_skipped = 0 < update.steps == update.skipped_steps
        self._consecutive_skips = self._consecutive_skips + 1 if problem or wholly_skipped else 0
        if self._consecutive_skips >= guards.max_consecutive_skips:
            scaled = (
                f" The learning rate was scaled down to {self._lr_scale:.3g} of itself." if self._lr_scale < 1 else ""
            )
            raise CollapseError(
                f"{self._consecutive_skips} updates in a row came to nothing; the last: {problem or update.first_bad}."
                f"{scaled} {dump_minibatch(update.samples, Path(self.logger.get_dir() or '.'))}"
            ) from self._error

    def _warn_once(self, kind: str, text: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            warnings.warn(f"{text} Further occurrences are only counted, under guards/ in the log.", stacklevel=3)
