"""Learning-rate schedules that count updates, and what counts them."""

from typing import TYPE_CHECKING

from sb3_stable_ppo.common.lazy import lazy_exports

if TYPE_CHECKING:
    from sb3_stable_ppo.schedules.callback import LRSchedulerCallback as LRSchedulerCallback
    from sb3_stable_ppo.schedules.counting import CountingSchedule as CountingSchedule
    from sb3_stable_ppo.schedules.kl_adaptive import KLAdaptiveLR as KLAdaptiveLR
    from sb3_stable_ppo.schedules.learning_rate import (
        CosineLR as CosineLR,
        LinearLR as LinearLR,
        StepLR as StepLR,
        WarmupLR as WarmupLR,
        make_schedule as make_schedule,
    )
    from sb3_stable_ppo.schedules.update_counter import CountsUpdates as CountsUpdates
else:
    __getattr__, __dir__, __all__ = lazy_exports(
        __name__,
        {
            "callback": ["LRSchedulerCallback"],
            "counting": ["CountingSchedule"],
            "kl_adaptive": ["KLAdaptiveLR"],
            "learning_rate": ["CosineLR", "LinearLR", "StepLR", "WarmupLR", "make_schedule"],
            "update_counter": ["CountsUpdates"],
        },
    )
