"""sb3_stable_ppo: a Stable-Baselines3 plugin that keeps PPO's networks alive."""

__version__ = "0.1.0"
