"""Runs that survive: checkpoints between two updates, and the return to them as if nothing had happened."""

from typing import TYPE_CHECKING

from sb3_stable_ppo.common.lazy import lazy_exports

if TYPE_CHECKING:
    from sb3_stable_ppo.checkpoints.callback import RunCheckpoint as RunCheckpoint
    from sb3_stable_ppo.checkpoints.resuming import Restored as Restored, restore as restore, resume as resume
else:
    __getattr__, __dir__, __all__ = lazy_exports(
        __name__,
        {
            "callback": ["RunCheckpoint"],
            "resuming": ["Restored", "restore", "resume"],
        },
    )
