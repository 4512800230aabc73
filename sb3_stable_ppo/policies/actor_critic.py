"""
What our mixins for policies stand before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy

# sb3-contrib's maskable policies have ActorCriticPolicy's methods but derive from BasePolicy alone.
if TYPE_CHECKING:
    ActorCritic = ActorCriticPolicy
else:
    ActorCritic = BasePolicy
