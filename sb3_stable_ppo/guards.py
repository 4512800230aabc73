"""
Guards around SB3's own ``train()``: they act on numbers that would break PPO and leave all others bit for bit alone.

``PPO.train`` takes its minibatches from ``rollout_buffer.get`` and its log-probabilities from
``policy.evaluate_actions``. While it runs, and only then, both are wrapped: ``get`` normalises the advantages (the very
arithmetic of ``PPO.train``, whose own is switched off meanwhile) and remembers ``old_log_prob``; ``evaluate_actions``
bounds the log-ratio that ``train`` is about to exponentiate.
"""

from __future__ import annotations

import difflib
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch as th
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_stable_ppo.patching import replaced


class CollapseError(ValueError):
    """Training cannot go on usefully. A ValueError, so that rl_zoo3's tuning prunes the trial."""


@dataclass(frozen=True)
class GuardConfig:
    """
    Bounds of the guards. Defaults are so wide that no healthy run meets them.

    :param max_log_ratio: the log-ratio of new to old policy is clamped to plus or minus this; 20 (a ratio of 5e8) only
        keeps ``exp`` and its gradient finite, as LLM trainers do (verl, miles), and leaves PPO's clipping its work
    :param fallback_ratio: bounds of the ratios in a minibatch that holds a non-finite one
    :param min_advantage_std: advantages with a smaller standard deviation are not normalised: they are noise, and
        dividing by it makes them large
    :raises ValueError: for a number outside its range
    """

    max_log_ratio: float = 20.0
    fallback_ratio: tuple[float, float] = (0.05, 20.0)
    min_advantage_std: float = 1e-5

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_log_ratio", float(self.max_log_ratio))
        object.__setattr__(self, "min_advantage_std", float(self.min_advantage_std))
        low, high = (float(bound) for bound in self.fallback_ratio)
        object.__setattr__(self, "fallback_ratio", (low, high))
        if not 0 < self.max_log_ratio <= 80:
            raise ValueError(f"max_log_ratio must be in (0, 80] (exp overflows beyond), not {self.max_log_ratio}.")
        if not 0 < low <= 1 <= high < math.inf:
            raise ValueError(f"fallback_ratio must be two bounds around 1, such as [0.05, 20], not {[low, high]}.")
        if not self.min_advantage_std >= 0:
            raise ValueError(f"min_advantage_std must be at least 0, not {self.min_advantage_std}.")

    @classmethod
    def of(cls, guards: GuardConfig | Mapping[str, Any] | None) -> GuardConfig | None:
        """
        The guards a user asked for.

        :param guards: a GuardConfig, a dict as YAML gives it, or None for no guards
        :raises ValueError: for an unknown key, with the nearest right one
        """
        if guards is None or isinstance(guards, GuardConfig):
            return guards
        if not isinstance(guards, Mapping):
            raise ValueError(f"guards must be a GuardConfig, a dict or None, not {guards!r}.")
        known = [field.name for field in fields(cls)]
        for key in guards:
            if key not in known:
                nearest = difflib.get_close_matches(str(key), known, n=1)
                hint = f"did you mean {nearest[0]}? " if nearest else ""
                raise ValueError(f"Unknown guard {key!r}: {hint}Known are {', '.join(known)}.")
        return cls(**guards)


class GuardedLogProb(NamedTuple):
    """What :func:`guard_log_prob` returns: the log-probabilities and how many rows it had to change."""

    log_prob: th.Tensor
    clamped: int
    nonfinite: int


def guard_log_prob(log_prob: th.Tensor, old_log_prob: th.Tensor, guards: GuardConfig) -> GuardedLogProb:
    """
    Bound the log-ratio ``log_prob - old_log_prob``; ``log_prob`` itself is returned when nothing is out of bounds.

    Where a row's log-ratio is not finite, it counts as ratio 1 without gradient, and the other ratios of the minibatch
    are held in ``fallback_ratio``. ``old_log_prob`` has to be finite in those rows (:func:`finite_or_zero`).

    :param log_prob: log-probabilities under the new policy, shape (batch,)
    :param old_log_prob: those under the policy that collected the data, shape (batch,)
    :param guards: the bounds
    """
    log_ratio = (log_prob - old_log_prob).detach()
    limit = guards.max_log_ratio
    if bool((log_ratio.abs() <= limit).all()):
        return GuardedLogProb(log_prob, 0, 0)
    finite = th.isfinite(log_ratio)
    low, high = -limit, limit
    if not bool(finite.all()):
        low = max(low, math.log(guards.fallback_ratio[0]))
        high = min(high, math.log(guards.fallback_ratio[1]))
    within = finite & (log_ratio >= low) & (log_ratio <= high)
    bounded = old_log_prob + log_ratio.clamp(low, high)
    bounded = th.where(finite, bounded, old_log_prob)
    n_nonfinite = int((~finite).sum())
    return GuardedLogProb(th.where(within, log_prob, bounded), int((~within).sum()) - n_nonfinite, n_nonfinite)


def finite_or_zero(values: th.Tensor) -> tuple[th.Tensor, th.Tensor | None]:
    """
    ``values`` with 0 in place of each non-finite one, and where those were.

    :param values: any tensor
    :return: ``values`` itself and None if all are finite
    """
    finite = th.isfinite(values)
    if bool(finite.all()):
        return values, None
    return th.where(finite, values, 0.0), ~finite


def normalize_advantages(advantages: th.Tensor, min_std: float, mask: th.Tensor | None = None) -> th.Tensor | None:
    """
    The arithmetic of ``PPO.train`` (with ``mask``: of ``RecurrentPPO.train``), bit for bit.

    :param advantages: shape (batch,)
    :param min_std: below this standard deviation nothing is normalised
    :param mask: True where a padded sequence has data
    :return: None where normalising would only blow up noise
    """
    chosen = advantages if mask is None else advantages[mask]
    std = chosen.std()
    if bool(std < min_std):
        return None
    return (advantages - chosen.mean()) / (std + 1e-8)


@dataclass
class UpdateRecord:
    """What the guards saw in one ``train()``."""

    rows: int = 0
    clamped: int = 0
    nonfinite: int = 0
    advantage_std_skips: int = 0
    first_ratio_error: float | None = None


class GuardMixin(OnPolicyAlgorithm):
    """
    Mixin for PPO and its kin: ``guards`` as a keyword, and a guarded ``train()``.

    Logged once per update: ``guards/log_ratio_clamp_fraction`` (share of the rows), ``guards/nonfinite_log_ratios``
    (rows), ``guards/advantage_std_skips`` (minibatches) and ``norm/first_ratio_error``, the largest ``|ratio - 1|`` in
    the first minibatch: 0 but for rounding, unless a norm acts otherwise in updates than in rollouts.

    :param args: the arguments of the algorithm
    :param guards: a :class:`GuardConfig`, a dict with its fields, or None: stock training
    :param kwargs: the keyword arguments of the algorithm
    """

    normalize_advantage: bool

    def __init__(
        self,
        *args: Any,
        guards: GuardConfig | Mapping[str, Any] | None = GuardConfig(),
        **kwargs: Any,
    ) -> None:
        # Before super().__init__, which may build the model at once; `load` sets it anew before _setup_model.
        self.guards = guards
        super().__init__(*args, **kwargs)

    def _setup_model(self) -> None:
        self.guards = GuardConfig.of(self.guards)
        self._warned_of_advantage_std = False
        super()._setup_model()

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_warned_of_advantage_std"]

    def train(self) -> None:
        guards = GuardConfig.of(self.guards)
        if guards is None:
            super().train()
            return
        record = UpdateRecord()
        with self._guarded(guards, record):
            super().train()
        self._log_guards(record)

    def _log_guards(self, record: UpdateRecord) -> None:
        self.logger.record("guards/log_ratio_clamp_fraction", record.clamped / max(record.rows, 1))
        self.logger.record("guards/nonfinite_log_ratios", record.nonfinite)
        self.logger.record("guards/advantage_std_skips", record.advantage_std_skips)
        if record.first_ratio_error is not None:
            self.logger.record("norm/first_ratio_error", record.first_ratio_error)

    @contextmanager
    def _guarded(self, guards: GuardConfig, record: UpdateRecord) -> Iterator[None]:
        """Wrap ``rollout_buffer.get`` and ``policy.evaluate_actions`` for one ``super().train()``."""
        normalize = self.normalize_advantage
        get, evaluate_actions = self.rollout_buffer.get, self.policy.evaluate_actions
        old_log_prob = th.empty(0)
        broken: th.Tensor | None = None

        def guarded_get(batch_size: int | None = None) -> Iterator[Any]:
            nonlocal old_log_prob, broken
            for samples in get(batch_size):
                changes: dict[str, th.Tensor] = {}
                if normalize and len(samples.advantages) > 1:
                    advantages = normalize_advantages(samples.advantages, guards.min_advantage_std)
                    if advantages is None:
                        self._skip_normalization(guards, record)
                    else:
                        changes["advantages"] = advantages
                old_log_prob, broken = finite_or_zero(samples.old_log_prob)
                if broken is not None:
                    changes["old_log_prob"] = old_log_prob
                yield samples._replace(**changes) if changes else samples

        def guarded_evaluate(*args: Any, **kwargs: Any) -> tuple[th.Tensor, th.Tensor, th.Tensor | None]:
            values, log_prob, entropy = evaluate_actions(*args, **kwargs)
            if broken is not None:
                log_prob = th.where(broken, math.nan, log_prob)
            if record.first_ratio_error is None:
                record.first_ratio_error = first_ratio_error(log_prob, old_log_prob)
            guarded = guard_log_prob(log_prob, old_log_prob, guards)
            record.rows += log_prob.numel()
            record.clamped += guarded.clamped
            record.nonfinite += guarded.nonfinite
            if entropy is None and guarded.log_prob is not log_prob:
                # PPO estimates a missing entropy by -log_prob: the clamp must not change that estimate
                entropy = -th.where(th.isfinite(log_prob), log_prob, guarded.log_prob)
            return values, guarded.log_prob, entropy

        self.normalize_advantage = False
        try:
            with (
                replaced(self.rollout_buffer, "get", guarded_get),
                replaced(self.policy, "evaluate_actions", guarded_evaluate),
            ):
                yield
        finally:
            self.normalize_advantage = normalize

    def _skip_normalization(self, guards: GuardConfig, record: UpdateRecord) -> None:
        record.advantage_std_skips += 1
        if not self._warned_of_advantage_std:
            self._warned_of_advantage_std = True
            warnings.warn(
                f"The advantages of a minibatch have a standard deviation below {guards.min_advantage_std:g} and are "
                "not normalised. Rewards that never differ do this: check that the env rewards anything. "
                "Said once per run; guards/advantage_std_skips counts on.",
                stacklevel=2,
            )


def first_ratio_error(log_prob: th.Tensor, old_log_prob: th.Tensor) -> float:
    """
    The largest ``|ratio - 1|`` among the finite ratios.

    :param log_prob: log-probabilities under the new policy, shape (batch,)
    :param old_log_prob: those under the policy that collected the data, shape (batch,)
    """
    error = (log_prob - old_log_prob).detach().clamp(max=88).exp().sub(1).abs()  # exp(89) overflows
    error = error[th.isfinite(error)]
    return float(error.max()) if error.numel() else 0.0
