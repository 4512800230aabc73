"""
Whether an env exists, and if not, what to do about it.
"""

from __future__ import annotations

import difflib
import re
from contextlib import suppress
from importlib.util import find_spec

import gymnasium as gym

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
    raise UsageError(f"Unknown env {env_id!r}{_did_you_mean(env_id)}.")


def _did_you_mean(env_id: str) -> str:
    """The nearest id; of an Atari game, however it is spelt, the one that leaves all skipping of frames to wrappers."""
    near = difflib.get_close_matches(env_id, list(gym.envs.registry), n=1)
    games = {_game(name): name for name in gym.envs.registry if name.endswith("NoFrameskip-v4")}
    nearest = near[0] if near else ""
    found = next((games[_game(name)] for name in (env_id, nearest) if _game(name) in games), nearest)
    return f" (did you mean {found}?)" if found else ""


def _game(name: str) -> str:
    """
    >>> [_game(name) for name in ("Pong", "ALE/Pong-v5", "PongDeterministic-v4", "Pong-ram-v0")]
    ['pong', 'pong', 'pong', 'pong']
    """
    return re.sub(r"^ALE/|(NoFrameskip|Deterministic)?(-ram)?(-v\d+)?$", "", name).lower()
