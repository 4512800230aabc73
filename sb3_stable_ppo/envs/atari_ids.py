"""
What the id of an Atari game says: its Gymnasium spec, and how often an action is repeated.
"""

from __future__ import annotations

from typing import Any

import ale_py
import gymnasium as gym

from sb3_stable_ppo.common.checks import did_you_mean

gym.register_envs(ale_py)


def atari_spec(env_id: str) -> Any:
    """
    The Gymnasium spec of an Atari game.

    :param env_id: a Gymnasium id
    :raises ValueError: if there is no such id, it is not an Atari game, or its ROM is missing
    """
    atari = [name for name, spec in gym.registry.items() if str(spec.entry_point).startswith("ale_py")]
    if env_id not in atari:
        hint = did_you_mean(env_id, atari) or ", such as PongNoFrameskip-v4"
        raise ValueError(f"{env_id!r} is not the id of an Atari game{hint}.")
    spec = gym.spec(env_id)
    if ale_py.roms.get_rom_path(spec.kwargs["game"]) is None:
        raise ValueError(f"The ROM of {env_id} is missing: pip install --force-reinstall ale-py brings all of them.")
    if spec.kwargs.get("obs_type", "rgb") == "ram":
        raise ValueError(f"{env_id} gives the memory, not the screen: choose its id without -ram.")
    return spec


def frame_skip_of(spec: Any) -> int:
    """
    How often an action is repeated: 1 in an id means that a wrapper is to skip, as AtariWrapper does: 4.

    :param spec: of an Atari game
    :raises ValueError: if it skips at random
    """
    skip = spec.kwargs["frameskip"]
    if not isinstance(skip, int):
        raise ValueError(
            f"{spec.id} skips a random number of frames: choose an id with NoFrameskip, or with "
            "vec_env='ale' frame_skip=4 (of make_atari_vec_env: wrapper_kwargs={'frame_skip': 4})."
        )
    return 4 if skip == 1 else skip
