"""
Repairs for a network in training, as callbacks for any algorithm of SB3 and sb3-contrib: each is one line in a callback
list, and none copies ``train()``. ``base`` says when they act; docs/interventions.md what each does and when it helps.
"""

from typing import TYPE_CHECKING

from sb3_stable_ppo.common.lazy import lazy_exports

if TYPE_CHECKING:
    from sb3_stable_ppo.interventions.adam_reset import AdamReset as AdamReset
    from sb3_stable_ppo.interventions.base import Intervention as Intervention
    from sb3_stable_ppo.interventions.churn_reduction import ChurnReduction as ChurnReduction
    from sb3_stable_ppo.interventions.continual_backprop import ContinualBackprop as ContinualBackprop
    from sb3_stable_ppo.interventions.feature_regularization import FeatureRegularization as FeatureRegularization
    from sb3_stable_ppo.interventions.l2_init import L2Init as L2Init
    from sb3_stable_ppo.interventions.redo import ReDo as ReDo
    from sb3_stable_ppo.interventions.regrama import ReGraMa as ReGraMa
    from sb3_stable_ppo.interventions.shrink_perturb import ShrinkPerturb as ShrinkPerturb
    from sb3_stable_ppo.interventions.spectral_cap import SpectralCap as SpectralCap
    from sb3_stable_ppo.interventions.weight_clip import WeightClip as WeightClip
    from sb3_stable_ppo.interventions.weight_projection import WeightProjection as WeightProjection
else:
    __getattr__, __dir__, __all__ = lazy_exports(
        __name__,
        {
            "adam_reset": ["AdamReset"],
            "base": ["Intervention"],
            "churn_reduction": ["ChurnReduction"],
            "continual_backprop": ["ContinualBackprop"],
            "feature_regularization": ["FeatureRegularization"],
            "l2_init": ["L2Init"],
            "redo": ["ReDo"],
            "regrama": ["ReGraMa"],
            "shrink_perturb": ["ShrinkPerturb"],
            "spectral_cap": ["SpectralCap"],
            "weight_clip": ["WeightClip"],
            "weight_projection": ["WeightProjection"],
        },
    )
