"""
sb3_stable_ppo: a Stable-Baselines3 plugin that keeps PPO's networks alive.

What users import is listed here, and imported when it is first asked for. The rooms, from the ground up: ``common``,
``metrics``, ``schedules``, ``fast``; ``policies``, ``envs``, ``probes``, ``runs``, ``studies``, ``parallel``;
``guards``, ``snapshots``, ``determinism``; ``health``, ``algorithms``, ``checkpoints``; ``zoo``, ``doctor``,
``report``, ``interventions``; ``tuning`` and ``bench``; ``cli``. A room imports only from those below it
(docs/architecture.md).
"""

from typing import TYPE_CHECKING

from sb3_stable_ppo._old_names import keep_importable
from sb3_stable_ppo.common.lazy import lazy_exports

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sb3_stable_ppo.algorithms.maskable_ppo import StableMaskablePPO as StableMaskablePPO
    from sb3_stable_ppo.algorithms.ppo import StablePPO as StablePPO
    from sb3_stable_ppo.algorithms.recurrent_ppo import StableRecurrentPPO as StableRecurrentPPO
    from sb3_stable_ppo.checkpoints.callback import RunCheckpoint as RunCheckpoint
    from sb3_stable_ppo.checkpoints.resuming import resume as resume
    from sb3_stable_ppo.common.errors import CollapseError as CollapseError, UsageError as UsageError
    from sb3_stable_ppo.determinism.check import check_determinism as check_determinism
    from sb3_stable_ppo.doctor.diagnosis import diagnose as diagnose
    from sb3_stable_ppo.doctor.findings import Diagnosis as Diagnosis, Finding as Finding
    from sb3_stable_ppo.fast.rollout_buffer import (
        TorchDictRolloutBuffer as TorchDictRolloutBuffer,
        TorchRolloutBuffer as TorchRolloutBuffer,
    )
    from sb3_stable_ppo.guards.callback import GuardCallback as GuardCallback
    from sb3_stable_ppo.guards.config import GuardConfig as GuardConfig
    from sb3_stable_ppo.health.callback import HealthCallback as HealthCallback
    from sb3_stable_ppo.interventions.adam_reset import AdamReset as AdamReset
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
    from sb3_stable_ppo.policies.value_norm_learning import ValueNormCallback as ValueNormCallback
    from sb3_stable_ppo.runs.stop_on_return import StopTrainingOnReturn as StopTrainingOnReturn
    from sb3_stable_ppo.schedules.callback import LRSchedulerCallback as LRSchedulerCallback
    from sb3_stable_ppo.schedules.kl_adaptive import KLAdaptiveLR as KLAdaptiveLR
    from sb3_stable_ppo.schedules.learning_rate import (
        CosineLR as CosineLR,
        LinearLR as LinearLR,
        StepLR as StepLR,
        WarmupLR as WarmupLR,
    )
    from sb3_stable_ppo.snapshots.callback import ActivationSnapshotCallback as ActivationSnapshotCallback
else:
    __getattr__, __dir__, __all__ = lazy_exports(
        __name__,
        {
            "algorithms.maskable_ppo": ["StableMaskablePPO"],
            "algorithms.ppo": ["StablePPO"],
            "algorithms.recurrent_ppo": ["StableRecurrentPPO"],
            "checkpoints.callback": ["RunCheckpoint"],
            "checkpoints.resuming": ["resume"],
            "common.errors": ["CollapseError", "UsageError"],
            "determinism.check": ["check_determinism"],
            "doctor.diagnosis": ["diagnose"],
            "doctor.findings": ["Diagnosis", "Finding"],
            "fast.rollout_buffer": ["TorchDictRolloutBuffer", "TorchRolloutBuffer"],
            "guards.callback": ["GuardCallback"],
            "guards.config": ["GuardConfig"],
            "health.callback": ["HealthCallback"],
            "interventions.adam_reset": ["AdamReset"],
            "interventions.churn_reduction": ["ChurnReduction"],
            "interventions.continual_backprop": ["ContinualBackprop"],
            "interventions.feature_regularization": ["FeatureRegularization"],
            "interventions.l2_init": ["L2Init"],
            "interventions.redo": ["ReDo"],
            "interventions.regrama": ["ReGraMa"],
            "interventions.shrink_perturb": ["ShrinkPerturb"],
            "interventions.spectral_cap": ["SpectralCap"],
            "interventions.weight_clip": ["WeightClip"],
            "interventions.weight_projection": ["WeightProjection"],
            "policies.classes": [
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
            "policies.value_norm_learning": ["ValueNormCallback"],
            "runs.stop_on_return": ["StopTrainingOnReturn"],
            "schedules.callback": ["LRSchedulerCallback"],
            "schedules.kl_adaptive": ["KLAdaptiveLR"],
            "schedules.learning_rate": ["CosineLR", "LinearLR", "StepLR", "WarmupLR"],
            "snapshots.callback": ["ActivationSnapshotCallback"],
        },
        unlisted=("StableMaskable*Policy", "StableRecurrent*Policy"),  # the algorithm chooses them
    )
    keep_importable()
