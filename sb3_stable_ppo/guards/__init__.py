"""
Guards around SB3's own ``train()``: they act on numbers that would break PPO, and undo updates that collapse. Of these
``GuardCallback`` has for any algorithm what a callback can do.
"""

from typing import TYPE_CHECKING

from sb3_stable_ppo.common.lazy import lazy_exports

if TYPE_CHECKING:
    from sb3_stable_ppo.guards.backup import Backup as Backup
    from sb3_stable_ppo.guards.callback import GuardCallback as GuardCallback
    from sb3_stable_ppo.guards.checked_env import CheckedVecEnv as CheckedVecEnv
    from sb3_stable_ppo.guards.config import GuardConfig as GuardConfig
    from sb3_stable_ppo.guards.mixin import GuardMixin as GuardMixin
    from sb3_stable_ppo.guards.update import GuardedUpdate as GuardedUpdate
else:
    __getattr__, __dir__, __all__ = lazy_exports(
        __name__,
        {
            "backup": ["Backup"],
            "callback": ["GuardCallback"],
            "checked_env": ["CheckedVecEnv"],
            "config": ["GuardConfig"],
            "mixin": ["GuardMixin"],
            "update": ["GuardedUpdate"],
        },
    )
