"""
sb3_stable_ppo: a Stable-Baselines3 plugin that keeps PPO's networks alive.

Importing it needs SB3 and torch alone; what needs rl_zoo3, Optuna or an emulator is in modules of its own.
"""

from sb3_stable_ppo.algorithms import StableMaskablePPO, StablePPO, StableRecurrentPPO
from sb3_stable_ppo.callbacks import ActivationSnapshotCallback
from sb3_stable_ppo.diagnosis import diagnose
from sb3_stable_ppo.findings import Diagnosis, Finding
from sb3_stable_ppo.guard_config import CollapseError, GuardConfig
from sb3_stable_ppo.health_callback import HealthCallback
from sb3_stable_ppo.lr_callback import LRSchedulerCallback
from sb3_stable_ppo.policies import (
    StableCnnPolicy,
    StableMaskableCnnPolicy,
    StableMaskableMlpPolicy,
    StableMaskableMultiInputPolicy,
    StableMaskablePongPolicy,
    StableMlpPolicy,
    StableMultiInputPolicy,
    StablePongPolicy,
    StableRecurrentCnnPolicy,
    StableRecurrentMlpPolicy,
    StableRecurrentMultiInputPolicy,
    StableRecurrentPongPolicy,
)
from sb3_stable_ppo.rollout_buffer import TorchRolloutBuffer
from sb3_stable_ppo.schedules import CosineLR, LinearLR, StepLR, WarmupLR

__version__ = "0.1.0"

__all__ = [
    "ActivationSnapshotCallback",
    "CollapseError",
    "CosineLR",
    "Diagnosis",
    "Finding",
    "GuardConfig",
    "HealthCallback",
    "LRSchedulerCallback",
    "LinearLR",
    "StableCnnPolicy",
    "StableMaskableCnnPolicy",
    "StableMaskableMlpPolicy",
    "StableMaskableMultiInputPolicy",
    "StableMaskablePPO",
    "StableMaskablePongPolicy",
    "StableMlpPolicy",
    "StableMultiInputPolicy",
    "StablePPO",
    "StablePongPolicy",
    "StableRecurrentCnnPolicy",
    "StableRecurrentMlpPolicy",
    "StableRecurrentMultiInputPolicy",
    "StableRecurrentPPO",
    "StableRecurrentPongPolicy",
    "StepLR",
    "TorchRolloutBuffer",
    "WarmupLR",
    "diagnose",
]
