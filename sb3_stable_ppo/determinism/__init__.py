"""Whether the same seed gives the same run, and where two runs part: what a run does, recorded and compared."""

from typing import TYPE_CHECKING

from sb3_stable_ppo.common.lazy import lazy_exports

if TYPE_CHECKING:
    from sb3_stable_ppo.determinism.check import check_determinism as check_determinism
    from sb3_stable_ppo.determinism.comparison import Comparison as Comparison, Difference as Difference
    from sb3_stable_ppo.determinism.recorder import RunRecorder as RunRecorder
else:
    __getattr__, __dir__, __all__ = lazy_exports(
        __name__,
        {
            "check": ["check_determinism"],
            "comparison": ["Comparison", "Difference"],
            "recorder": ["RunRecorder"],
        },
    )
