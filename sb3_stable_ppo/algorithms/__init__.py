"""SB3's PPO and sb3-contrib's two siblings of it, guarded; a module for each."""

from typing import TYPE_CHECKING

from sb3_stable_ppo.common.lazy import lazy_exports

if TYPE_CHECKING:
    from sb3_stable_ppo.algorithms.maskable_ppo import StableMaskablePPO as StableMaskablePPO
    from sb3_stable_ppo.algorithms.ppo import StablePPO as StablePPO
    from sb3_stable_ppo.algorithms.recurrent_ppo import StableRecurrentPPO as StableRecurrentPPO
else:
    __getattr__, __dir__, __all__ = lazy_exports(
        __name__,
        {
            "maskable_ppo": ["StableMaskablePPO"],
            "ppo": ["StablePPO"],
            "recurrent_ppo": ["StableRecurrentPPO"],
        },
    )
