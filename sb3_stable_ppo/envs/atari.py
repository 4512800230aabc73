"""
Atari games for training: ALE's vector env, or SB3's own envs and wrappers, with the same observations.
"""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.env_util import make_atari_env as make_stock_atari_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecFrameStack, VecTransposeImage

from sb3_stable_ppo.common.checks import one_of, whole_number
from sb3_stable_ppo.common.renamed import warn_of_old_name
from sb3_stable_ppo.envs.atari_ids import atari_spec, frame_skip_of
from sb3_stable_ppo.envs.atari_vec_env import RESET_EVERY, AtariVecEnv

VEC_ENVS = ("ale", "dummy", "subproc")


def make_atari_vec_env(
    env_id: str,
    n_envs: int = 1,
    seed: int | None = None,
    *,
    vec_env: str = "ale",
    frame_stack: int = 4,
    num_threads: int = 0,
    monitor_dir: str | None = None,
    wrapper_kwargs: dict[str, Any] | None = None,
    resumable: bool = False,
    reset_every: int = RESET_EVERY,
) -> VecEnv:
    """
    Atari as DeepMind preprocessed it, channels first, frames stacked already (SB3's ``make_atari_env`` leaves the
    stacking to ``VecFrameStack``).

    :param env_id: a Gymnasium id such as ``PongNoFrameskip-v4``
    :param n_envs: number of games
    :param seed: of the first game
    :param vec_env: ``ale`` for :class:`AtariVecEnv`; ``dummy`` or ``subproc`` for SB3's own envs and wrappers
    :param frame_stack: frames per observation
    :param num_threads: of :class:`AtariVecEnv`
    :param monitor_dir: where the monitor files go
    :param wrapper_kwargs: keywords of SB3's ``AtariWrapper``, which :class:`AtariVecEnv` takes by the same names
    :param resumable: of :class:`AtariVecEnv`, as is ``reset_every``: a run can go on exactly after a kill
    :param reset_every: steps after which all games are cut short then
    :raises ValueError: for an unknown word, an id that is not Atari, or a number out of range
    """
    if one_of(vec_env, VEC_ENVS, "vec_env") == "ale":
        options: dict[str, Any] = {
            "num_threads": num_threads,
            "monitor_dir": monitor_dir,
            "resumable": resumable,
            "reset_every": reset_every,
            **(wrapper_kwargs or {}),
        }
        return AtariVecEnv(env_id, n_envs, seed, frame_stack=frame_stack, **options)
    if resumable:
        raise ValueError(
            f"resumable is an option of vec_env='ale', and vec_env is {vec_env!r}: leave it out. Of SB3's own, "
            "dummy is saved whole without it, and subproc cannot be saved."
        )
    spec = atari_spec(env_id)
    n_envs = whole_number(n_envs, "n_envs", 1)
    if frame_skip_of(spec) == spec.kwargs["frameskip"]:  # an id that skips by itself: the wrapper would skip once more
        wrapper_kwargs = {"frame_skip": 1, **(wrapper_kwargs or {})}
    stock: type[DummyVecEnv] | type[SubprocVecEnv] = DummyVecEnv if vec_env == "dummy" else SubprocVecEnv
    env = make_stock_atari_env(
        env_id, n_envs, seed, monitor_dir=monitor_dir, wrapper_kwargs=wrapper_kwargs, vec_env_cls=stock
    )
    return VecTransposeImage(VecFrameStack(env, frame_stack))


def make_atari_env(*args: Any, **kwargs: Any) -> VecEnv:
    """The old name of :func:`make_atari_vec_env`: SB3's function of that name stacks no frames."""
    warn_of_old_name("make_atari_env", "make_atari_vec_env")
    return make_atari_vec_env(*args, **kwargs)
