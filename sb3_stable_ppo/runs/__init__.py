"""The run folder on disk: one format, which callbacks write and everything else reads."""

from typing import TYPE_CHECKING

from sb3_stable_ppo.common.lazy import lazy_exports

if TYPE_CHECKING:
    from sb3_stable_ppo.runs.callback import RunCallback as RunCallback
    from sb3_stable_ppo.runs.data import RunData as RunData, read_run as read_run
    from sb3_stable_ppo.runs.folder import RunReader as RunReader, RunWriter as RunWriter
    from sb3_stable_ppo.runs.series import Series as Series
else:
    __getattr__, __dir__, __all__ = lazy_exports(
        __name__,
        {
            "callback": ["RunCallback"],
            "data": ["RunData", "read_run"],
            "folder": ["RunReader", "RunWriter"],
            "series": ["Series"],
        },
    )
