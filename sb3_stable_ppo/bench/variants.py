"""
The ways to train that are compared, for each kind of env: each adds an option to the one before.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import gymnasium as gym
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.preprocessing import get_action_dim, get_obs_shape, is_image_space

from sb3_stable_ppo.algorithms import StablePPO
from sb3_stable_ppo.common.checks import did_you_mean
from sb3_stable_ppo.common.errors import UsageError, one_line
from sb3_stable_ppo.envs.envpool_vec_env import check_envpool_has
from sb3_stable_ppo.envs.registry import check_env
from sb3_stable_ppo.fast.rollout_buffer import TorchDictRolloutBuffer, TorchRolloutBuffer

NOTHING: Mapping[str, Any] = MappingProxyType({})


class Variant(NamedTuple):
    """
    A way to train.

    :param name: what is trained, in a few words
    :param algorithm: PPO, or what has its arguments
    :param vec_env: ``dummy``, ``subproc``, ``ale`` of Atari games, or ``envpool``
    :param policy: the algorithm's own name of it, or one of StablePPO's
    :param policy_kwargs: of the policy
    :param options: further arguments of the algorithm
    :param is_watched: whether a HealthCallback is there
    """

    name: str
    algorithm: type[OnPolicyAlgorithm]
    vec_env: str
    policy: str
    policy_kwargs: Mapping[str, Any] = NOTHING
    options: Mapping[str, Any] = NOTHING
    is_watched: bool = False


class Kind(NamedTuple):
    """
    A kind of env, and how it is measured unless the user says otherwise.

    :param variants: by the short name that one types; all are compared with the first
    :param n_envs: envs at once
    :param numbers: of PPO
    :param steps: environment steps that are timed
    """

    variants: dict[str, Variant]
    n_envs: int
    numbers: dict[str, Any]
    steps: int

    @property
    def base(self) -> str:
        """The short name of what the others are compared with."""
        return next(iter(self.variants))

    def find(self, word: str) -> str:
        """
        A variant by its short name or its number.

        >>> ATARI.find("ale"), ATARI.find("3")
        ('ale', 'ale')

        :param word: a short name, or its number from 1 on
        :return: the short name
        :raises ValueError: if it is neither, with the nearest name and all names
        """
        if word.isdecimal() and 1 <= int(word) <= len(self.variants):
            return list(self.variants)[int(word) - 1]
        if word in self.variants:
            return word
        raise ValueError(
            f"Unknown variant {word!r}{did_you_mean(word, self.variants)}: choose from {', '.join(self.variants)}, or "
            f"a number from 1 to {len(self.variants)}."
        )


_BUFFER: dict[str, Any] = {"rollout_buffer_class": TorchRolloutBuffer}
_BUFFER_CHANNELS_LAST = {**_BUFFER, "rollout_buffer_kwargs": {"memory_format": "channels_last"}}
_FUSED: dict[str, Any] = {"optimizer_kwargs": {"fused": True}}


def _of_images(vec_env: str, where: str) -> dict[str, Variant]:
    """
    :param vec_env: of all these variants
    :param where: the end of the first one's name
    """
    norm = {"norm": "batch"}
    channels_last = {**norm, **_FUSED, "memory_format": "channels_last"}
    bf16 = {**channels_last, "precision": "auto"}
    compiled = {**bf16, "compile": "auto"}

    def ours(name: str, policy_kwargs: Mapping[str, Any], options: Mapping[str, Any] = NOTHING) -> Variant:
        return Variant(name, PPO, vec_env, "StableCnnPolicy", policy_kwargs, options)

    return {
        "norm": ours(f"StableCnnPolicy with BatchNorm{where}", norm),
        "buffer": ours("+ TorchRolloutBuffer, fused Adam", {**norm, **_FUSED}, _BUFFER),
        "channels_last": ours("+ channels_last", channels_last, _BUFFER_CHANNELS_LAST),
        "bf16": ours("+ precision: auto", bf16, _BUFFER_CHANNELS_LAST),
        "compile": ours("+ compile: auto", compiled, _BUFFER_CHANNELS_LAST),
        "all": Variant("all of it, StablePPO", StablePPO, vec_env, "StableCnnPolicy", compiled, _BUFFER_CHANNELS_LAST),
    }


_ZOO: dict[str, Any] = {
    "learning_rate": 2.5e-4,
    "n_steps": 128,
    "batch_size": 256,
    "n_epochs": 4,
    "clip_range": 0.1,
    "ent_coef": 0.01,
}
"""rl_zoo3's numbers for Atari, but for the schedules."""
ATARI = Kind(
    {
        "dummy": Variant("stock SB3, DummyVecEnv", PPO, "dummy", "CnnPolicy"),
        "subproc": Variant("stock SB3, SubprocVecEnv", PPO, "subproc", "CnnPolicy"),
        "ale": Variant("stock SB3, ALE env", PPO, "ale", "CnnPolicy"),
        **_of_images("ale", ", ALE env"),
    },
    n_envs=8,
    numbers=_ZOO,
    steps=4096,
)
IMAGES = Kind(
    {
        "stock": Variant("stock SB3", PPO, "dummy", "CnnPolicy"),
        "subproc": Variant("stock SB3, SubprocVecEnv", PPO, "subproc", "CnnPolicy"),
        **_of_images("dummy", ""),
    },
    n_envs=8,
    numbers=_ZOO,
    steps=4096,
)


def _of_vectors(policy: str) -> Kind:
    """
    :param policy: ``MlpPolicy`` or ``MultiInputPolicy``, whose observations EnvPool's vec env does not take
    """
    lean = {**_FUSED, "lean": "auto"}
    cls = TorchRolloutBuffer if policy == "MlpPolicy" else TorchDictRolloutBuffer
    buffer = {"rollout_buffer_class": cls}
    pooled = {"envpool": Variant("+ EnvPool", StablePPO, "envpool", f"Stable{policy}", lean, buffer, is_watched=True)}
    return Kind(
        {
            "stock": Variant("stock SB3", PPO, "dummy", policy),
            "policy": Variant(f"Stable{policy}, with LayerNorm", PPO, "dummy", f"Stable{policy}"),
            "fused": Variant("+ fused Adam", PPO, "dummy", f"Stable{policy}", _FUSED),
            "lean": Variant("+ lean: auto", PPO, "dummy", f"Stable{policy}", lean),
            "buffer": Variant(f"+ {cls.__name__}", PPO, "dummy", f"Stable{policy}", lean, buffer),
            "guards": Variant("+ guards: StablePPO", StablePPO, "dummy", f"Stable{policy}", lean, buffer),
            "all": Variant("+ HealthCallback", StablePPO, "dummy", f"Stable{policy}", lean, buffer, is_watched=True),
            **(pooled if policy == "MlpPolicy" else {}),
        },
        n_envs=1,
        numbers={"n_steps": 2048, "batch_size": 64, "n_epochs": 10},
        steps=8192,
    )


VECTORS, DICTS = _of_vectors("MlpPolicy"), _of_vectors("MultiInputPolicy")


def kind_of(env_id: str) -> Kind:
    """
    What an env is measured as.

    :param env_id: a Gymnasium id
    :raises UsageError: if there is no such env, SB3 cannot train on its spaces, or something that it needs is not
        installed
    """
    check_env(env_id)
    if str(gym.spec(env_id).entry_point).startswith("ale_py"):
        return ATARI
    env = gym.make(env_id)
    space = env.observation_space
    env.close()
    try:
        get_obs_shape(space), get_action_dim(env.action_space)
    except NotImplementedError as error:
        raise UsageError(f"bench: SB3 trains nothing on {env_id}: {one_line(error)}. Choose another env.") from error
    if is_image_space(space):
        return IMAGES
    if isinstance(space, spaces.Dict):
        return DICTS
    try:
        check_envpool_has(env_id)
    except (ImportError, ValueError):
        return VECTORS._replace(variants={word: each for word, each in VECTORS.variants.items() if word != "envpool"})
    return VECTORS
