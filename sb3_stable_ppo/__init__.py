"""
sb3_stable_ppo: a Stable-Baselines3 plugin that keeps PPO's networks alive.

Importing it needs SB3 and torch alone; what needs rl_zoo3, Optuna or an emulator is in modules of its own.
"""

from sb3_stable_ppo.algorithms import StablePPO
from sb3_stable_ppo.callbacks import ActivationSnapshotCallback, HealthCallback, LRSchedulerCallback
from sb3_stable_ppo.guards import CollapseError, GuardConfig
from sb3_stable_ppo.policies import StableCnnPolicy, StableMlpPolicy, StableMultiInputPolicy, StablePongPolicy
from sb3_stable_ppo.schedules import CosineLR, LinearLR, StepLR, WarmupLR

__version__ = "0.1.0"

__all__ = [
    "ActivationSnapshotCallback",
    "CollapseError",
    "CosineLR",
    "GuardConfig",
    "HealthCallback",
    "LRSchedulerCallback",
    "LinearLR",
    "StableCnnPolicy",
    "StableMlpPolicy",
    "StableMultiInputPolicy",
    "StablePPO",
    "StablePongPolicy",
    "StepLR",
    "WarmupLR",
]
