"""
Guards around SB3's own ``train()``: they act on numbers that would break PPO and leave all others bit for bit alone.

Inside stands :class:`~sb3_stable_ppo.guards.update.GuardedUpdate`, one ``train()`` with its inputs guarded. Around it
stands :class:`~sb3_stable_ppo.guards.undo.UndoMixin`, which takes back an update that collapses the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from sb3_stable_ppo.common.errors import CollapseError
from sb3_stable_ppo.common.log_formats import TABLE, record_count
from sb3_stable_ppo.common.tensors import is_broken_distribution
from sb3_stable_ppo.guards.arithmetic import reward_scale
from sb3_stable_ppo.guards.broken_rollout import why_outputs_are_not_finite
from sb3_stable_ppo.guards.checked_env import CheckedVecEnv
from sb3_stable_ppo.guards.checked_step import checked_below
from sb3_stable_ppo.guards.config import CURE_OF_SKIPS, DEFAULT_GUARDS, GuardConfig
from sb3_stable_ppo.guards.model_format import FORMAT, check_format, check_policy
from sb3_stable_ppo.guards.one_learn import OneLearn
from sb3_stable_ppo.guards.reading import dump_minibatch
from sb3_stable_ppo.guards.undo import UndoMixin
from sb3_stable_ppo.guards.update import GuardedUpdate


class GuardMixin(UndoMixin):
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
        super().__init__(*args, **kwargs)

    def _setup_model(self) -> None:
        check_format(self.format_version)  # `load` has set what the zip has
        check_policy(self)
        self.format_version = FORMAT
        self.guards = GuardConfig.of(self.guards)
        self._checked_env: CheckedVecEnv | None = None
        self._checked_below: list[CheckedVecEnv] = []
        super()._setup_model()

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_checked_env", "_checked_below"]

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
        with checked_below(env, rule, step, OneLearn(self), self._warn_once, self._checked_below) as below:
            self._checked_below = below
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
            self._reward_scale = reward_scale(self.rollout_buffer.rewards, self.rollout_buffer.episode_starts)
        for each in below:
            checked.bad_rewards += each.bad_rewards
            checked.bad_observations += each.bad_observations
        return goes_on

    # -- while updating ------------------------------------------------------------------------------------------------

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
            self._finish(guards, *self._train_or_undo(guards))
        else:
            with GuardedUpdate(self, guards, self._warn_once) as update:
                super().train()
            self._finish(guards, update, None)

    def _finish(self, guards: GuardConfig, update: GuardedUpdate, problem: str | None) -> None:
        """Log what was seen, and stop where no update gets through any more."""
        checked = self._checked_env
        counts = {
            "nonfinite_log_ratios": update.nonfinite,
            "advantage_std_skips": update.advantage_std_skips,
            "skipped_steps": update.skipped_steps,
            "nonfinite_rewards": int(checked.bad_rewards.sum()) if checked else 0,
            "nonfinite_observations": int(checked.bad_observations.sum()) if checked else 0,
        }
        for name, count in counts.items():
            record_count(self.logger, f"guards/{name}", count)
        figures = {
            "log_ratio_clamp_fraction": update.clamped / max(update.rows, 1),
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
                f"{scaled} {CURE_OF_SKIPS} {dump_minibatch(update.samples, Path(self.logger.get_dir() or '.'))}"
            ) from self._error
