"""
``vec_env:`` in a configuration, which rl_zoo3 does not know: envs in C++ in place of rl_zoo3's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from stable_baselines3.common.vec_env import VecEnv

from sb3_stable_ppo.common.checks import unknown
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.zoo.atari_options import REPLAY_KEYS, ale_options
from sb3_stable_ppo.zoo.hyperparams import class_entries

VEC_ENV_WORDS = ("ale", "envpool", "dummy", "subproc", "restarting")
MakesEnv = Callable[..., VecEnv]


def batch_vec_env(hyperparams: Mapping[str, Any], env_id: str, source: str) -> MakesEnv | None:
    """
    What makes the training env, where ``vec_env`` names one of ours.

    :param hyperparams: one entry of the file
    :param env_id: a Gymnasium id
    :param source: where it comes from, for the error
    :return: takes ``n_envs``, ``seed`` and ``monitor_dir``; None where rl_zoo3 makes the env
    :raises UsageError: for an unknown word, or what the env of that word cannot do
    """
    word = hyperparams.get("vec_env", "dummy")
    if word not in VEC_ENV_WORDS:
        raise UsageError(f"{source}: {unknown('vec_env', word, VEC_ENV_WORDS)}")
    for key in REPLAY_KEYS:
        if word != "ale" and hyperparams.get(key):
            raise UsageError(
                f"{source}: {key} is an option of vec_env: ale, and vec_env is {word} here: leave it out. (vec_env: "
                "dummy is saved whole without it, where its envs can be saved.)"
            )
    if word == "ale":
        options = ale_options(hyperparams, env_id, source)
        from sb3_stable_ppo.envs.atari_vec_env import AtariVecEnv  # ale_py is an extra

        return partial(AtariVecEnv, env_id, **options)
    return _envpool(hyperparams, env_id, source) if word == "envpool" else None


def _envpool(hyperparams: Mapping[str, Any], env_id: str, source: str) -> MakesEnv:
    from sb3_stable_ppo.envs.envpool_vec_env import EnvPoolVecEnv, check_envpool_has

    try:
        check_envpool_has(env_id)
    except (ImportError, ValueError) as error:
        raise UsageError(f"{source}: vec_env: envpool: {error} Or choose vec_env: dummy.") from None
    wrappers = [name for name, _ in class_entries(hyperparams.get("env_wrapper"))]
    given = {
        "env_wrapper": ", ".join(map(str, wrappers)),
        "env_kwargs": ", ".join(hyperparams.get("env_kwargs") or ()),
        "monitor_kwargs": ", ".join(hyperparams.get("monitor_kwargs") or ()),
        "frame_stack": str(hyperparams.get("frame_stack") or ""),
    }
    for key, names in given.items():
        if names:
            raise UsageError(
                f"{source}: vec_env: envpool cannot take {key}, here {names}: its envs are not in Python. "
                "Choose vec_env: dummy, or leave it out."
            )
    return partial(EnvPoolVecEnv, env_id)
