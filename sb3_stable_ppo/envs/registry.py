"""
Whether an env exists, and if not, what to do about it.
"""

from __future__ import annotations

from contextlib import suppress
from importlib.util import find_spec

import gymnasium as gym

from sb3_stable_ppo.common.checks import did_you_mean
from sb3_stable_ppo.common.errors import UsageError


def check_env(env_id: str) -> None:
    """
    :param env_id: a Gymnasium id
    :raises UsageError: if it is not registered, with the extra that is missing or the nearest id
    """
    with suppress(ImportError):
        import ale_py

        gym.register_envs(ale_py)
    if env_id in gym.envs.registry:
        if str(gym.envs.registry[env_id].entry_point).startswith("gymnasium.envs.mujoco") and not find_spec("mujoco"):
            raise UsageError(f"{env_id} needs MuJoCo: pip install 'sb3-stable-ppo[mujoco]'.")
        return
    if ("NoFrameskip" in env_id or env_id.startswith("ALE/")) and find_spec("ale_py") is None:
        raise UsageError(f"{env_id} needs the Atari emulator: pip install 'sb3-stable-ppo[atari]'.")
    raise UsageError(f"Unknown env {env_id!r}{did_you_mean(env_id, gym.envs.registry)}.")
