"""The same mathematics, faster: memory format, bfloat16, ``torch.compile``, threads, and buffers with fewer copies."""

from typing import TYPE_CHECKING

from sb3_stable_ppo.common.lazy import lazy_exports

if TYPE_CHECKING:
    from sb3_stable_ppo.fast.config import FastPathConfig as FastPathConfig
    from sb3_stable_ppo.fast.execution import FastPath as FastPath
    from sb3_stable_ppo.fast.rollout_buffer import (
        TorchDictRolloutBuffer as TorchDictRolloutBuffer,
        TorchRolloutBuffer as TorchRolloutBuffer,
    )
else:
    __getattr__, __dir__, __all__ = lazy_exports(
        __name__,
        {
            "config": ["FastPathConfig"],
            "execution": ["FastPath"],
            "rollout_buffer": ["TorchDictRolloutBuffer", "TorchRolloutBuffer"],
        },
    )
