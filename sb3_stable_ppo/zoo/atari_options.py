"""
What rl_zoo3's keys mean for :class:`AtariVecEnv`, which ``vec_env: ale`` asks for.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from stable_baselines3.common.atari_wrappers import AtariWrapper

from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.zoo.hyperparams import class_entries

ATARI_WRAPPER = f"{AtariWrapper.__module__}.{AtariWrapper.__name__}"


def ale_options(hyperparams: Mapping[str, Any], env_id: str, source: str) -> dict[str, Any]:
    """
    The arguments of an AtariVecEnv that does what ``env_wrapper``, ``frame_stack`` and ``env_kwargs`` say.

    :param hyperparams: one entry of the file
    :param env_id: the game
    :param source: where it comes from, for the error
    :raises UsageError: for wrappers that the C++ env cannot stand in for
    """
    if gym.spec(env_id).kwargs.get("frameskip", 1) != 1:
        raise UsageError(
            f"{source}: {env_id} repeats actions by itself, and AtariWrapper, in which scores are evaluated, would "
            "repeat them 4 times more: choose the id that ends in NoFrameskip-v4, or vec_env: dummy."
        )
    wrappers = class_entries(hyperparams.get("env_wrapper"))
    if [name for name, _ in wrappers] != [ATARI_WRAPPER]:
        names = ", ".join(str(name) for name, _ in wrappers) or "none"
        raise UsageError(
            f"{source}: vec_env: ale is for Atari games: it stands in for the wrapper {ATARI_WRAPPER} and no other, "
            f"here: {names}. Choose vec_env: dummy."
        )
    options = dict(wrappers[0][1])
    unknown_keys = set(options) - set(inspect.signature(AtariWrapper.__init__).parameters)
    for given in (unknown_keys, hyperparams.get("env_kwargs"), hyperparams.get("monitor_kwargs")):
        for key in given or ():
            raise UsageError(f"{source}: vec_env: ale cannot pass on {key!r}. Choose vec_env: dummy, or leave it out.")
    if options.pop("action_repeat_probability", 0.0):
        options["action_repeat_probability"] = wrappers[0][1]["action_repeat_probability"]
    frame_stack = hyperparams.get("frame_stack", 1)
    if not isinstance(frame_stack, int) or frame_stack < 1:
        raise UsageError(f"{source}: frame_stack must be a whole number of at least 1, not {frame_stack!r}.")
    return {**options, "frame_stack": frame_stack}
