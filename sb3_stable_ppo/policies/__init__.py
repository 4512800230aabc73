"""Policies whose layers stay alive: norms, activations and an init by name."""

from typing import TYPE_CHECKING

from sb3_stable_ppo.common.lazy import lazy_exports

if TYPE_CHECKING:
    from sb3_stable_ppo.policies.blocks import BlockConfig as BlockConfig
    from sb3_stable_ppo.policies.classes import (
        StableCnnPolicy as StableCnnPolicy,
        StableMaskableCnnPolicy as StableMaskableCnnPolicy,
        StableMaskableMlpPolicy as StableMaskableMlpPolicy,
        StableMaskableMultiInputPolicy as StableMaskableMultiInputPolicy,
        StableMaskablePongPolicy as StableMaskablePongPolicy,
        StableMlpPolicy as StableMlpPolicy,
        StableMultiInputPolicy as StableMultiInputPolicy,
        StablePongPolicy as StablePongPolicy,
        StableRecurrentCnnPolicy as StableRecurrentCnnPolicy,
        StableRecurrentMlpPolicy as StableRecurrentMlpPolicy,
        StableRecurrentMultiInputPolicy as StableRecurrentMultiInputPolicy,
        StableRecurrentPongPolicy as StableRecurrentPongPolicy,
    )
    from sb3_stable_ppo.policies.extractors import (
        StableCNN as StableCNN,
        StableCombinedExtractor as StableCombinedExtractor,
        StableMlpExtractor as StableMlpExtractor,
    )
    from sb3_stable_ppo.policies.mixin import StablePolicyMixin as StablePolicyMixin
else:
    __getattr__, __dir__, __all__ = lazy_exports(
        __name__,
        {
            "blocks": ["BlockConfig"],
            "classes": [
                "StableCnnPolicy",
                "StableMaskableCnnPolicy",
                "StableMaskableMlpPolicy",
                "StableMaskableMultiInputPolicy",
                "StableMaskablePongPolicy",
                "StableMlpPolicy",
                "StableMultiInputPolicy",
                "StablePongPolicy",
                "StableRecurrentCnnPolicy",
                "StableRecurrentMlpPolicy",
                "StableRecurrentMultiInputPolicy",
                "StableRecurrentPongPolicy",
            ],
            "extractors": ["StableCNN", "StableCombinedExtractor", "StableMlpExtractor"],
            "mixin": ["StablePolicyMixin"],
        },
        unlisted=("StableMaskable*Policy", "StableRecurrent*Policy"),  # the algorithm chooses them
    )
