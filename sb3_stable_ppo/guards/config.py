"""
What the guards watch for, as plain numbers that YAML can hold.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from sb3_stable_ppo.common.lazy import public

ON_NONFINITE_OBS = ("raise", "repeat_last")


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
        dividing by it makes them large
    :param on_nonfinite_obs: what an observation that is not finite does: ``raise`` a CollapseError, or let the env
        ``repeat_last``
    :param undo: whether updates that collapse the network are undone and tried again at a lower learning rate
    :param max_kl: an update that moves the policy further than this from the one that collected the data is undone
    :param max_lost_unit_fraction: so is one after which more than this share of the live units of a layer hardly vary
        any more
    :param max_newly_inactive_fraction: so is one after which more than this share of a layer's units, positive on some
        row before, is positive on none: ReLU units that died, LeakyReLU units that turned linear
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
    max_retries: int = 3
    probe_rows: int = 64
    max_consecutive_skips: int = 10

    def __post_init__(self) -> None:
        for name in (
            "max_log_ratio",
            "min_advantage_std",
            "max_kl",
            "max_lost_unit_fraction",
            "max_newly_inactive_fraction",
        ):
            object.__setattr__(self, name, _number(name, getattr(self, name)))
        for name in ("max_retries", "probe_rows", "max_consecutive_skips"):
            value = getattr(self, name)
            if not _number(name, value).is_integer():  # nor is infinity
                raise ValueError(f"{name} must be a whole number, not {value!r}.")
            object.__setattr__(self, name, int(float(value)))
        for name in ("undo", "straight_through"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be true or false, not {getattr(self, name)!r}.")
        if not isinstance(self.fallback_ratio, (list, tuple)) or len(self.fallback_ratio) != 2:
            raise ValueError(f"fallback_ratio must be two bounds around 1, not {self.fallback_ratio!r}.")
        low, high = (_number("fallback_ratio", bound) for bound in self.fallback_ratio)
        object.__setattr__(self, "fallback_ratio", (low, high))
        if not 0 < self.max_log_ratio <= 80:
            raise ValueError(f"max_log_ratio must be in (0, 80] (exp overflows beyond), not {self.max_log_ratio}.")
        if not 0 < low <= 1 <= high < math.inf:
            raise ValueError(f"fallback_ratio must be two bounds around 1, such as [0.05, 20], not {[low, high]}.")
        for name in ("max_lost_unit_fraction", "max_newly_inactive_fraction"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in (0, 1], not {getattr(self, name)}.")
        if self.max_kl == 0:
            raise ValueError("max_kl must be above 0: no update leaves the policy where it was.")
        if self.probe_rows < 2:
            raise ValueError(f"probe_rows must be at least 2, not {self.probe_rows}.")
        if self.max_consecutive_skips < 1:
            raise ValueError(f"max_consecutive_skips must be at least 1, not {self.max_consecutive_skips}.")
        if self.on_nonfinite_obs not in ON_NONFINITE_OBS:
            choices = ", ".join(ON_NONFINITE_OBS)
            raise ValueError(f"Unknown on_nonfinite_obs {self.on_nonfinite_obs!r}: choose one of {choices}.")

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


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number, not {value!r}.") from None
    if not number >= 0:
        raise ValueError(f"{name} must be at least 0, not {value!r}.")
    return number
