"""SB3's algorithms, guarded. Everything else is theirs: arguments, saving, loading, callbacks, logging."""

from __future__ import annotations

from typing import ClassVar

from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.policies import BasePolicy

from sb3_stable_ppo.common.lazy import public
from sb3_stable_ppo.guards.mixin import GuardMixin
from sb3_stable_ppo.policies import classes as policies
from sb3_stable_ppo.schedules.update_counter import CountsUpdates


@public
class StablePPO(CountsUpdates, GuardMixin, PPO):
    """
    SB3's PPO with the guards of :class:`~sb3_stable_ppo.guards.mixin.GuardMixin` and schedules that count updates.

    >>> model = StablePPO("StableMlpPolicy", "CartPole-v1", guards={"max_log_ratio": 10})

    :param guards: a ``GuardConfig``, a dict with its fields, or None for stock training
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        **PPO.policy_aliases,
        "StablePongPolicy": policies.StablePongPolicy,
        "StableCnnPolicy": policies.StableCnnPolicy,
        "StableMlpPolicy": policies.StableMlpPolicy,
        "StableMultiInputPolicy": policies.StableMultiInputPolicy,
    }


@public
class StableMaskablePPO(CountsUpdates, GuardMixin, MaskablePPO):
    """sb3-contrib's MaskablePPO, guarded as :class:`StablePPO`; the same aliases mean its maskable policies."""

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        **MaskablePPO.policy_aliases,
        "StablePongPolicy": policies.StableMaskablePongPolicy,
        "StableCnnPolicy": policies.StableMaskableCnnPolicy,
        "StableMlpPolicy": policies.StableMaskableMlpPolicy,
        "StableMultiInputPolicy": policies.StableMaskableMultiInputPolicy,
    }


@public
class StableRecurrentPPO(CountsUpdates, GuardMixin, RecurrentPPO):
    """sb3-contrib's RecurrentPPO, guarded as :class:`StablePPO`; the same aliases mean its recurrent policies."""

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        **RecurrentPPO.policy_aliases,
        "StablePongPolicy": policies.StableRecurrentPongPolicy,
        "StableCnnPolicy": policies.StableRecurrentCnnPolicy,
        "StableMlpPolicy": policies.StableRecurrentMlpPolicy,
        "StableMultiInputPolicy": policies.StableRecurrentMultiInputPolicy,
    }
