"""The run folder on disk: one format, which callbacks write and everything else reads."""

from typing import TYPE_CHECKING

from sb3_stable_ppo.common.lazy import lazy_exports

if TYPE_CHECKING:
    from sb3_stable_ppo.runs.callback import RunCallback as RunCallback
    from sb3_stable_ppo.runs.data import RunData as RunData, Series as Series, read_run as read_run
    from sb3_stable_ppo.runs.folder import RunReader as RunReader, RunWriter as RunWriter
else:
    __getattr__, __dir__, __all__ = lazy_exports(
        __name__,
        {
            "callback": ["RunCallback"],
            "data": ["RunData", "Series", "read_run"],
            "folder": ["RunReader", "RunWriter"],
        },
    )
