"""
What rl_zoo3's keys mean for :class:`AtariVecEnv`, which ``vec_env: ale`` asks for.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from stable_baselines3.common.atari_wrappers import AtariWrapper

from sb3_stable_ppo.common.checks import whole_number
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.zoo.hyperparams import class_entries

ATARI_WRAPPER = f"{AtariWrapper.__module__}.{AtariWrapper.__name__}"
REPLAY_KEYS = ("resumable", "reset_every")
"""Keys of an entry that are arguments of AtariVecEnv by the same names."""


def ale_options(hyperparams: Mapping[str, Any], env_id: str, source: str) -> dict[str, Any]:
    """
    The arguments of an AtariVecEnv that does what ``env_wrapper``, ``frame_stack``, ``env_kwargs``, ``resumable`` and
    ``reset_every`` say.

    :param hyperparams: one entry of the file
    :param env_id: the game
    :param source: where it comes from, for the error
    :raises UsageError: for what the C++ env cannot do
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
    return {**options, "frame_stack": frame_stack, **replay_options(hyperparams, source)}


def replay_options(hyperparams: Mapping[str, Any], source: str) -> dict[str, Any]:
    """
    The arguments of an AtariVecEnv that ``resumable`` and ``reset_every`` give.

    :param hyperparams: one entry of the file
    :param source: where it comes from, for the error
    :raises UsageError: for a value that it cannot have, and for ``reset_every`` without ``resumable``
    """
    given = {key: hyperparams[key] for key in REPLAY_KEYS if key in hyperparams}
    resumable = given.get("resumable", False)
    if not isinstance(resumable, bool):
        raise UsageError(f"{source}: resumable must be true or false, not {resumable!r}.")
    if "reset_every" in given:
        if not resumable:
            raise UsageError(f"{source}: reset_every changes nothing without resumable: true. Add it, or leave it out.")
        try:
            given["reset_every"] = whole_number(given["reset_every"], "reset_every", 1)
        except ValueError as error:
            raise UsageError(f"{source}: {error}") from None
    return given
