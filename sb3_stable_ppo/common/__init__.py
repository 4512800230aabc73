"""What knows nothing of reinforcement learning: errors, checks, files, tensors, signals, patching."""

from typing import TYPE_CHECKING

from sb3_stable_ppo.common.lazy import lazy_exports

if TYPE_CHECKING:
    from sb3_stable_ppo.common.errors import CollapseError as CollapseError, UsageError as UsageError
else:
    __getattr__, __dir__, __all__ = lazy_exports(
        __name__,
        {
            "errors": ["CollapseError", "UsageError"],
        },
    )
