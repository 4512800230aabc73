"""rl_zoo3 with our algorithms: its own code reads the YAML and trains; what is rough is mended from outside."""

from typing import TYPE_CHECKING

from sb3_stable_ppo.common.lazy import lazy_exports

if TYPE_CHECKING:
    from sb3_stable_ppo.zoo.hyperparams import check_hyperparams as check_hyperparams, with_numbers as with_numbers
    from sb3_stable_ppo.zoo.manager import StableExperimentManager as StableExperimentManager
    from sb3_stable_ppo.zoo.masks import (
        MaskedTrialEvalCallback as MaskedTrialEvalCallback,
        masked_evaluation as masked_evaluation,
    )
    from sb3_stable_ppo.zoo.registry import ALGORITHMS as ALGORITHMS, config_file as config_file, register as register
    from sb3_stable_ppo.zoo.seeds import train_seeds as train_seeds
else:
    __getattr__, __dir__, __all__ = lazy_exports(
        __name__,
        {
            "hyperparams": ["check_hyperparams", "with_numbers"],
            "manager": ["StableExperimentManager"],
            "masks": ["MaskedTrialEvalCallback", "masked_evaluation"],
            "registry": ["ALGORITHMS", "config_file", "register"],
            "seeds": ["train_seeds"],
        },
    )
