"""What the layers of a network put out, as pictures over a run."""

from typing import TYPE_CHECKING

from sb3_stable_ppo.common.lazy import lazy_exports

if TYPE_CHECKING:
    from sb3_stable_ppo.snapshots.callback import ActivationSnapshotCallback as ActivationSnapshotCallback
    from sb3_stable_ppo.snapshots.export import write_gif as write_gif, write_strip as write_strip
    from sb3_stable_ppo.snapshots.timeline import Timeline as Timeline, timeline_of as timeline_of
else:
    __getattr__, __dir__, __all__ = lazy_exports(
        __name__,
        {
            "callback": ["ActivationSnapshotCallback"],
            "export": ["write_gif", "write_strip"],
            "timeline": ["Timeline", "timeline_of"],
        },
    )
