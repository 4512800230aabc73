"""Training speed on this machine: stock SB3, and what this package has, one option after the other."""

from typing import TYPE_CHECKING

from sb3_stable_ppo.common.lazy import lazy_exports

if TYPE_CHECKING:
    from sb3_stable_ppo.bench.training import train as train
    from sb3_stable_ppo.bench.variants import kind_of as kind_of
else:
    __getattr__, __dir__, __all__ = lazy_exports(
        __name__,
        {
            "training": ["train"],
            "variants": ["kind_of"],
        },
    )
