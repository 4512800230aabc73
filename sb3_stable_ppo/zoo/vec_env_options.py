"""
The vec envs whose envs rl_zoo3 makes, and their options: ``vec_env:`` and ``vec_env_kwargs:`` in a configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from sb3_stable_ppo.common.checks import did_you_mean
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.common.keywords import keywords_of
from sb3_stable_ppo.envs.restarting_vec_env import RestartingVecEnv

STOCK_VEC_ENVS: dict[str, type[VecEnv]] = {
    "dummy": DummyVecEnv,
    "subproc": SubprocVecEnv,
    "restarting": RestartingVecEnv,
}


def vec_env_options(given: Any, word: str | None, source: str) -> dict[str, Any]:
    """
    Check ``vec_env_kwargs``.

    :param given: what the entry says; None: nothing
    :param word: of ``vec_env``; None: the entry has none
    :param source: where it comes from, for the error
    :return: keywords of the vec env
    :raises UsageError: for an option that this vec env does not have
    """
    if not given:
        return {}
    if not isinstance(given, Mapping):
        raise UsageError(f"{source}: vec_env_kwargs must be options with their values, not {given!r}.")
    word = word or "dummy"
    known = sorted(keywords_of(STOCK_VEC_ENVS[word]) - {"env_fns"}) if word in STOCK_VEC_ENVS else []
    for name in given:
        if name not in known:
            has = f"its options are {', '.join(known)}" if known else "it has no options here"
            raise UsageError(f"{source}: vec_env: {word} has no option {name!r}{did_you_mean(name, known)}; {has}.")
    return dict(given)
