"""SB3's algorithms, guarded. Everything else is theirs: arguments, saving, loading, callbacks, logging."""

from __future__ import annotations

from typing import ClassVar

from stable_baselines3 import PPO
from stable_baselines3.common.policies import BasePolicy

from sb3_stable_ppo.counting import CountsUpdates
from sb3_stable_ppo.guards import GuardMixin
from sb3_stable_ppo.policies import StableCnnPolicy, StableMlpPolicy, StableMultiInputPolicy, StablePongPolicy


class StablePPO(CountsUpdates, GuardMixin, PPO):
    """
    SB3's PPO with the guards of :class:`~sb3_stable_ppo.guards.GuardMixin` and schedules that count updates.

    >>> model = StablePPO("StableMlpPolicy", "CartPole-v1", guards={"max_log_ratio": 10})

    :param guards: a ``GuardConfig``, a dict with its fields, or None for stock training
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        **PPO.policy_aliases,
        "StablePongPolicy": StablePongPolicy,
        "StableCnnPolicy": StableCnnPolicy,
        "StableMlpPolicy": StableMlpPolicy,
        "StableMultiInputPolicy": StableMultiInputPolicy,
    }
