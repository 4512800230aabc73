"""
Time limits that SB3's Monitor does not see, since it lies within ``env_wrapper``.
"""

from __future__ import annotations

import math

import gymnasium as gym
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv

from sb3_stable_ppo.common.errors import UsageError


def check_ends_are_seen(env: VecEnv, source: str) -> None:
    """
    Check that Monitor sees the ends of episodes: ``evaluate_policy`` counts what it reports, and waits for ever where
    it reports nothing.

    :param env: of evaluations; envs in other processes are not looked into
    :param source: where ``env_wrapper`` comes from, for the error
    :raises UsageError: if a time limit outside it comes before the env's own
    """
    for each in getattr(env.unwrapped, "envs", ()):
        layer = each
        while isinstance(layer, gym.Wrapper) and not isinstance(layer, Monitor):
            spec = layer.env.spec
            own = math.inf if spec is None or spec.max_episode_steps is None else spec.max_episode_steps
            if isinstance(layer, TimeLimit) and layer._max_episode_steps < own:
                raise UsageError(
                    f"{source}: env_wrapper: TimeLimit lies outside SB3's Monitor, which then sees no episode end, so "
                    "that an evaluation would wait for ever. Write "
                    f"env_kwargs: {{max_episode_steps: {layer._max_episode_steps}}} in its place."
                )
            layer = layer.env
