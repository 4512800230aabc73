"""
Environments: ALE's and EnvPool's C++ envs for SB3, envs in processes that may die, masks that an env tells in ``info``,
and whether an id exists.
"""

from typing import TYPE_CHECKING

from sb3_stable_ppo.common.lazy import lazy_exports

if TYPE_CHECKING:
    from sb3_stable_ppo.envs.action_masks import InfoActionMasks as InfoActionMasks
    from sb3_stable_ppo.envs.atari import make_atari_env as make_atari_env, make_atari_vec_env as make_atari_vec_env
    from sb3_stable_ppo.envs.atari_vec_env import AtariVecEnv as AtariVecEnv
    from sb3_stable_ppo.envs.envpool_vec_env import EnvPoolVecEnv as EnvPoolVecEnv
    from sb3_stable_ppo.envs.forkserver import preload_forkserver as preload_forkserver
    from sb3_stable_ppo.envs.registry import check_env as check_env
    from sb3_stable_ppo.envs.restarting_vec_env import RestartingVecEnv as RestartingVecEnv
else:
    __getattr__, __dir__, __all__ = lazy_exports(
        __name__,
        {
            "action_masks": ["InfoActionMasks"],
            "atari": ["make_atari_env", "make_atari_vec_env"],
            "atari_vec_env": ["AtariVecEnv"],
            "envpool_vec_env": ["EnvPoolVecEnv"],
            "forkserver": ["preload_forkserver"],
            "registry": ["check_env"],
            "restarting_vec_env": ["RestartingVecEnv"],
        },
        unlisted=("make_atari_env",),  # an old name, which SB3's own function has too
    )
