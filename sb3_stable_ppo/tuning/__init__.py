"""``sb3-stable-ppo tune``: a coordinator starts workers, each runs trials of a study until there are enough."""

from typing import TYPE_CHECKING

from sb3_stable_ppo.common.lazy import lazy_exports

if TYPE_CHECKING:
    from sb3_stable_ppo.tuning.coordinator import tune as tune
    from sb3_stable_ppo.tuning.results import write_best as write_best
    from sb3_stable_ppo.tuning.trial import Plan as Plan
else:
    __getattr__, __dir__, __all__ = lazy_exports(
        __name__,
        {
            "coordinator": ["tune"],
            "results": ["write_best"],
            "trial": ["Plan"],
        },
    )
