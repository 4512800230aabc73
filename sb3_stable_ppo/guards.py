"""
Guards around SB3's own ``train()``: they act on numbers that would break PPO and leave all others bit for bit alone.

Inside stands :class:`~sb3_stable_ppo.guarded_update.GuardedUpdate`, one ``train()`` with its inputs guarded. Around it
stands the undo: an update that moves the policy too far, kills units or breaks weights is taken back and tried again at
a lower learning rate.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_stable_ppo.guard_config import CollapseError, GuardConfig
from sb3_stable_ppo.guard_math import mean_kl, next_scale, unit_loss, worst_loss
from sb3_stable_ppo.guarded_update import GuardedUpdate
from sb3_stable_ppo.observations import ObservationGuard
from sb3_stable_ppo.patching import replaced
from sb3_stable_ppo.probes import ActivationProbe
from sb3_stable_ppo.undo import Backup, Reading, all_finite, dump_minibatch, first_nonfinite, peek, read, row_mask

DEFAULT_GUARDS = GuardConfig()


class GuardMixin(OnPolicyAlgorithm):
    """
    Mixin for PPO, MaskablePPO and RecurrentPPO: ``guards`` as a keyword, and a guarded ``train()``.

    What is logged under ``guards/`` and ``norm/`` is listed in docs/guards.md.

    :param args: the arguments of the algorithm
    :param guards: a :class:`~sb3_stable_ppo.guard_config.GuardConfig`, a dict with its fields, or None: stock training
    :param kwargs: the keyword arguments of the algorithm
    """

    normalize_advantage: bool

    def __init__(
        self, *args: Any, guards: GuardConfig | Mapping[str, Any] | None = DEFAULT_GUARDS, **kwargs: Any
    ) -> None:
        # Before super().__init__, which may build the model at once; `load` sets it anew before _setup_model.
        self.guards = guards
        self._lr_scale = 1.0
        self._scale_moves = False
        self._undone_updates = 0
        self._dropped_updates = 0
        self._consecutive_skips = 0
        super().__init__(*args, **kwargs)

    def _setup_model(self) -> None:
        self.guards = GuardConfig.of(self.guards)
        self._said: set[str] = set()
        self._nonfinite_rewards = 0
        self._observations = ObservationGuard()
        self._check_gradients = False
        super()._setup_model()

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_said", "_nonfinite_rewards", "_observations", "_check_gradients"]

    # -- while collecting ----------------------------------------------------------------------------------------------

    def collect_rollouts(self, env: Any, callback: Any, rollout_buffer: Any, *args: Any, **kwargs: Any) -> bool:
        """SB3's, with observations and rewards checked: one bad reward would poison all earlier steps through GAE."""
        guards = GuardConfig.of(self.guards)
        if guards is None:
            return super().collect_rollouts(env, callback, rollout_buffer, *args, **kwargs)
        compute = rollout_buffer.compute_returns_and_advantage

        def guarded_compute(*compute_args: Any, **compute_kwargs: Any) -> None:
            finite = np.isfinite(rollout_buffer.rewards)
            if not finite.all():
                bad = int((~finite).sum())
                self._nonfinite_rewards += bad
                self._say_once("rewards", f"rewards: {bad} of {finite.size} are not finite and become 0.")
                rollout_buffer.rewards[~finite] = 0.0
            compute(*compute_args, **compute_kwargs)

        with (
            replaced(rollout_buffer, "compute_returns_and_advantage", guarded_compute),
            self._observations.watching(self, env, guards.on_nonfinite_obs),
        ):
            return super().collect_rollouts(env, callback, rollout_buffer, *args, **kwargs)

    # -- while updating ------------------------------------------------------------------------------------------------

    def _update_learning_rate(self, optimizers: Any) -> None:
        super()._update_learning_rate(optimizers)
        if self._lr_scale == 1.0:
            return
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            for group in optimizer.param_groups:
                group["lr"] *= self._lr_scale
                self.logger.record("train/learning_rate", group["lr"])

    def train(self) -> None:
        """
        SB3's ``train()``, guarded, and undone if it collapses the network.

        :raises CollapseError: after ``max_consecutive_skips`` updates in a row that were dropped or wholly skipped
        """
        guards = GuardConfig.of(self.guards)
        if guards is None:
            super().train()
        elif guards.undo:
            self._train_or_undo(guards)
        else:
            with GuardedUpdate(self, guards, self._say_once) as update:
                super().train()
            self._finish(guards, update, None)

    def _train_or_undo(self, guards: GuardConfig) -> None:
        rows = peek(self.rollout_buffer, guards.probe_rows)
        probe = ActivationProbe(self.policy)
        before = read(self.policy, probe, rows, self.action_space)
        backup, n_updates = Backup(self.policy), self._n_updates
        for _ in range(guards.max_retries + 1):
            update = GuardedUpdate(self, guards, self._say_once, self._check_gradients)
            problem, kl = self._attempt(update), math.nan
            if problem is not None and not self._check_gradients:
                # It may have been one gradient: from here on each is looked at, and its step skipped in time
                self._check_gradients = True
                backup.restore()
                self._n_updates = n_updates
                update = GuardedUpdate(self, guards, self._say_once)
                problem = self._attempt(update)
            if problem is None:
                after = read(self.policy, probe, rows, self.action_space)
                kl = mean_kl(before.distributions, after.distributions, row_mask(rows))
                problem = self._judge(guards, before, after, kl)
            if problem is None:
                break
            backup.restore()
            self._n_updates = n_updates
            self._undone_updates += 1
            self._lr_scale /= 2
            self._scale_moves = True
            self._say_once("undo", f"An update was undone: {problem}. The learning rate is halved.")
        if problem is None and self._scale_moves:
            self._lr_scale = next_scale(self._lr_scale, kl)
        self._dropped_updates += problem is not None
        self._finish(guards, update, problem)

    def _attempt(self, update: GuardedUpdate) -> str | None:
        """One guarded ``train()``; what broke, in words, or None."""
        try:
            with update:
                super().train()
        except CollapseError:
            raise
        except ValueError as error:  # torch's argument validation: what the policy puts out is no distribution
            return f"train() failed: {' '.join(str(error).split())[:300]}"
        state = {name: tensor for name, tensor in self.policy.state_dict().items() if tensor.is_floating_point()}
        return None if all_finite(list(state.values())) else first_nonfinite(state)

    def _judge(self, guards: GuardConfig, before: Reading, after: Reading, kl: float) -> str | None:
        """Whether an update went too far; how, in words, or None."""
        loss, layer = unit_loss(before.spread, after.spread)
        silenced, silenced_layer = worst_loss(before.positive, after.positive)
        self.logger.record("guards/update_kl", kl)
        self.logger.record("guards/unit_loss", loss)
        self.logger.record("guards/silenced", silenced)
        if not kl <= guards.max_kl:  # not "kl >": a KL that is no number is too large as well
            return f"it moved the policy by a KL of {kl:.3g}, more than max_kl {guards.max_kl:g}"
        if loss > guards.max_unit_loss:
            return f"{loss:.0%} of the live units of {layer} died, more than max_unit_loss {guards.max_unit_loss:.0%}"
        if silenced > guards.max_silenced:
            return (
                f"{silenced:.0%} of the units of {silenced_layer} are positive on no row any more, more than "
                f"max_silenced {guards.max_silenced:.0%}"
            )
        return None

    def _finish(self, guards: GuardConfig, update: GuardedUpdate, problem: str | None) -> None:
        """Log what was seen, and stop where no update gets through any more."""
        figures = {
            "log_ratio_clamp_fraction": update.clamped / max(update.rows, 1),
            "nonfinite_log_ratios": update.nonfinite,
            "raw_approx_kl": update.raw_approx_kl,
            "advantage_std_skips": update.advantage_std_skips,
            "skipped_steps": update.skipped_steps,
            "nonfinite_rewards": self._nonfinite_rewards,
            "nonfinite_observations": self._observations.count,
            "undone_updates": self._undone_updates,
            "dropped_updates": self._dropped_updates,
            "lr_scale": self._lr_scale,
        }
        for name, value in figures.items():
            self.logger.record(f"guards/{name}", value)
        if update.first_ratio_error is not None:
            self.logger.record("norm/first_ratio_error", update.first_ratio_error)
        self._nonfinite_rewards = self._observations.count = 0

        wholly_skipped = 0 < update.steps == update.skipped_steps
        self._consecutive_skips = self._consecutive_skips + 1 if problem or wholly_skipped else 0
        if self._consecutive_skips >= guards.max_consecutive_skips:
            dumped = dump_minibatch(update.samples, Path(self.logger.get_dir() or "."))
            raise CollapseError(
                f"{self._consecutive_skips} updates in a row came to nothing; the last: {problem or update.first_bad}. "
                f"The learning rate was scaled down to {self._lr_scale:.3g} of itself. A minibatch is in {dumped}."
            )

    def _say_once(self, kind: str, text: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            warnings.warn(f"{text} (Said once; guards/ in the log counts on.)", stacklevel=3)
