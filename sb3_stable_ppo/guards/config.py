"""
What the guards watch for, as plain numbers that YAML can hold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from sb3_stable_ppo.common.checks import did_you_mean, number, one_of, whole_number
from sb3_stable_ppo.common.lazy import public

ON_NONFINITE_OBS = ("raise", "repeat_last")
MAX_LOG_RATIO = 80.0
"""Not far beyond, ``exp`` overflows float32."""
CURE_OF_SKIPS = "Lower the learning rate, or normalise observations and rewards (VecNormalize)."
"""What helps where no update gets through any more."""
OLD_FIELDS = {"max_unit_loss": "max_lost_unit_fraction", "max_silenced": "max_newly_inactive_fraction"}
"""What fields were called in version 0.1.0; understood in configurations and in saved models."""


@public
@dataclass(frozen=True)
class GuardConfig:
    """
    Bounds of the guards. Defaults are so wide that no healthy run meets them.

    :param max_log_ratio: the log-ratio of new to old policy is clamped to plus or minus this; 20 (a ratio of 5e8) only
        keeps ``exp`` and its gradient finite, as LLM trainers do (verl, miles), and leaves PPO's clipping its work
    :param straight_through: clamped rows keep their gradient, which pulls a ratio that ran away back again (A < 0)
    :param fallback_ratio: bounds of the ratios in a minibatch that holds a non-finite one
    :param min_advantage_std: advantages with a smaller standard deviation are not normalised: they are noise, and
        dividing by it makes them large. Where the largest reward of the rollout is below 1, a share of that reward;
        rewards of steps that end an episode do not count
    :param on_nonfinite_obs: what an observation that is not finite does: ``raise`` a CollapseError, or let the env
        ``repeat_last``
    :param undo: whether updates that collapse the network are undone and tried again at a lower learning rate
    :param max_kl: an update that moves the policy further than this from the one that collected the data is undone;
        inf: none is
    :param max_lost_unit_fraction: so is one after which more than this share of the live units of a layer hardly vary
        any more
    :param max_newly_inactive_fraction: so is one after which more than this share of a layer's units, positive on some
        row before, is positive on none: ReLU units that died, LeakyReLU units that turned linear
    :param max_statistics_kl: running statistics, BatchNorm's and those of observations, move less far after an update,
        where they would move the policy further than this
    :param max_retries: how often an update is tried again before it is dropped
    :param probe_rows: observations of the rollout on which both are measured
    :param max_consecutive_skips: after so many updates in a row that were dropped, or whose every optimizer step was
        skipped, training stops with a CollapseError
    :raises ValueError: for a number outside its range or an unknown word
    """

    max_log_ratio: float = 20.0
    straight_through: bool = False
    fallback_ratio: tuple[float, float] = (0.05, 20.0)
    min_advantage_std: float = 1e-5
    on_nonfinite_obs: str = "raise"
    undo: bool = True
    max_kl: float = 1.0
    max_lost_unit_fraction: float = 0.5
    max_newly_inactive_fraction: float = 0.85
    max_statistics_kl: float = 0.05
    max_retries: int = 3
    probe_rows: int = 64
    max_consecutive_skips: int = 10

    def __post_init__(self) -> None:
        checked: dict[str, Any] = {
            "min_advantage_std": number(self.min_advantage_std, "min_advantage_std", may_be_infinite=True),
            "max_kl": number(self.max_kl, "max_kl", may_be_infinite=True),
            "max_statistics_kl": number(self.max_statistics_kl, "max_statistics_kl", may_be_infinite=True),
            "max_log_ratio": number(self.max_log_ratio, "max_log_ratio", high=MAX_LOG_RATIO),
            "fallback_ratio": self._checked_fallback_ratio(),
            "max_retries": whole_number(self.max_retries, "max_retries"),
            "probe_rows": whole_number(self.probe_rows, "probe_rows", least=2),
            "max_consecutive_skips": whole_number(self.max_consecutive_skips, "max_consecutive_skips", least=1),
        }
        for name in ("max_lost_unit_fraction", "max_newly_inactive_fraction"):
            checked[name] = number(getattr(self, name), name, high=1.0)
        for name in ("max_log_ratio", "max_kl", "max_lost_unit_fraction", "max_newly_inactive_fraction"):
            if checked[name] == 0:
                raise ValueError(f"{name} must be above 0: no update leaves the policy exactly where it was.")
        for name in ("undo", "straight_through"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be true or false, not {getattr(self, name)!r}.")
        one_of(self.on_nonfinite_obs, ON_NONFINITE_OBS, "on_nonfinite_obs")
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Models of version 0.1.0 were saved with the fields' old names."""
        self.__dict__.update({OLD_FIELDS.get(name, name): value for name, value in state.items()})

    def _checked_fallback_ratio(self) -> tuple[float, float]:
        bounds = self.fallback_ratio
        if isinstance(bounds, (list, tuple)) and len(bounds) == 2:
            low, high = (number(bound, "fallback_ratio") for bound in bounds)
            if 0 < low <= 1 <= high < math.inf:
                return low, high
        raise ValueError(f"fallback_ratio must be two bounds around 1, such as [0.05, 20], not {bounds!r}.")

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
        named: dict[str, Any] = {}
        known = [field.name for field in fields(cls)]
        for key, value in guards.items():
            name = OLD_FIELDS.get(key, key)
            if name not in known:
                raise ValueError(f"Unknown guard {key!r}{did_you_mean(key, known)}. Known are {', '.join(known)}.")
            if name in named:
                raise ValueError(f"Guard {name} is given twice: {key} is its old name. Leave one of them out.")
            named[name] = value
        return cls(**named)


DEFAULT_GUARDS = GuardConfig()
"""What an algorithm has if nobody says otherwise."""
