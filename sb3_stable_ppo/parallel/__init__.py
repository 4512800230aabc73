"""Jobs in several processes: on this machine, or on a Ray cluster."""

from typing import TYPE_CHECKING

from sb3_stable_ppo.common.lazy import lazy_exports

if TYPE_CHECKING:
    from sb3_stable_ppo.parallel.local import Job as Job, run_here as run_here
    from sb3_stable_ppo.parallel.options import WorkerOptions as WorkerOptions
    from sb3_stable_ppo.parallel.ray import run_on_ray as run_on_ray
else:
    __getattr__, __dir__, __all__ = lazy_exports(
        __name__,
        {
            "local": ["Job", "run_here"],
            "options": ["WorkerOptions"],
            "ray": ["run_on_ray"],
        },
    )
