"""
EnvPool's envs as an SB3 ``VecEnv``: classic control, Box2D and MuJoCo in C++, all envs of a batch in one call.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from sb3_stable_ppo.common.checks import did_you_mean, whole_number
from sb3_stable_ppo.envs.batch_vec_env import BatchVecEnv, Member

NOT_INFO = ("env_id", "players", "elapsed_step")
"""What EnvPool adds to the infos of the env itself."""
OURS = (
    "base_path",
    "batch_size",
    "env_seed",
    "env_type",
    "gym_reset_return_info",
    "max_num_players",
    "num_envs",
    "num_threads",
    "seed",
    "thread_affinity_offset",
)
"""Options of EnvPool that say how it is run, not what the env is."""


class EnvPoolVecEnv(BatchVecEnv):
    """
    Envs of EnvPool (https://github.com/sail-sg/envpool), which has Gymnasium's classic control, Box2D and MuJoCo envs
    rewritten in C++ by the same ids. Needs the extra ``sb3-stable-ppo[envpool]``.

    A finished episode begins anew in the same step; ``terminal_observation``, ``TimeLimit.truncated`` and ``episode``
    are in its info, as SB3's ``DummyVecEnv`` and ``Monitor`` have it. An env draws other random numbers than
    Gymnasium's of the same seed, so its episodes are others. At the step of the time limit EnvPool tells of the limit
    alone: an episode that fails in that very step counts as truncated, and PPO bootstraps from its last state.

    :param env_id: an id that EnvPool and Gymnasium know, such as ``Hopper-v5``
    :param n_envs: number of envs
    :param seed: of the first env; the others count on from it
    :param num_threads: that step the envs; 0: as many as torch has, n_envs at most: they take turns with torch's
    :param monitor_dir: where to write SB3's ``0.monitor.csv``, a line per episode of any env; None: not at all
    :param env_kwargs: of EnvPool's env, such as ``max_episode_steps``
    :raises ImportError: if EnvPool is not installed
    :raises ValueError: for an id that EnvPool does not have, observations that are no array, an option that its env
        does not have, or a number out of range
    """

    def __init__(
        self,
        env_id: str,
        n_envs: int = 1,
        seed: int | None = None,
        *,
        num_threads: int = 0,
        monitor_dir: str | Path | None = None,
        **env_kwargs: Any,
    ) -> None:
        check_envpool_has(env_id)
        check_options(env_id, env_kwargs)
        self._env_id, self._env_kwargs = env_id, env_kwargs
        self._n_envs = whole_number(n_envs, "n_envs", 1)
        self._threads = whole_number(num_threads, "num_threads") or min(self._n_envs, th.get_num_threads())
        self._pool = self._make_pool(int(np.random.default_rng(seed).integers(2**31 - self._n_envs)))
        space, actions = self._spaces()
        if not isinstance(space, (spaces.Box, spaces.Discrete)):
            raise ValueError(f"{env_id} of EnvPool observes {space}; EnvPoolVecEnv takes a Box or a Discrete.")
        spec = gym.spec(env_id)
        super().__init__([Member(spec, space, actions, None) for _ in range(self._n_envs)], monitor_dir)
        self._returns = np.zeros(self._n_envs)
        self.seed(seed)

    def _make_pool(self, seed: int) -> Any:
        import envpool  # an extra

        with warnings.catch_warnings():
            # of the bounds of its spaces, which are float64; it makes them at the first question, and keeps them
            warnings.filterwarnings("ignore", ".*precision lowered by casting", UserWarning)
            pool = envpool.make(
                self._env_id,
                env_type="gymnasium",
                num_envs=self._n_envs,
                num_threads=self._threads,
                seed=seed,
                **self._env_kwargs,
            )
            _ = pool.observation_space, pool.action_space
        return pool

    def _spaces(self) -> tuple[spaces.Space[Any], spaces.Space[Any]]:
        """
        Gymnasium's, so that a model goes on in either env: EnvPool's have other types, and of Box2D other bounds. Those
        of EnvPool where an option has changed the shape, or Gymnasium's env cannot be made.
        """
        own = self._pool.observation_space, self._pool.action_space
        self._action_dtype = own[1].dtype
        try:
            env = gym.make(self._env_id)
        except (gym.error.Error, ImportError):
            return own
        env.close()
        stock = env.observation_space, env.action_space
        are_alike = all(type(a) is type(b) and a.shape == b.shape for a, b in zip(own, stock, strict=True))
        return stock if are_alike else own

    def reset(self) -> np.ndarray:
        """A new episode in every env, whether or not the last one was over."""
        self._check_open()
        if self._is_stepping:  # an interrupt came between the two halves of a step
            self._pool.recv()
            self._is_stepping = False
        if self._seeds[0] is not None:  # EnvPool takes a seed at its making only
            self._pool.close()
            self._pool = self._make_pool(self._seeds[0] % (2**31 - self._n_envs))
        observations, info = self._pool.reset()
        self._reset_seeds()
        self._reset_options()
        self._returns[:] = 0
        self.reset_infos = _infos(info, self._n_envs)
        return np.array(observations, dtype=self.observation_space.dtype)

    def set_options(self, options: list[dict[str, Any]] | dict[str, Any] | None = None) -> None:
        """
        :param options: of the next ``reset()``; EnvPool's envs take none
        :raises ValueError: for any
        """
        if options and any([options] if isinstance(options, dict) else options):
            raise ValueError(f"EnvPool's envs take no options at reset(), and {options!r} would change nothing.")
        super().set_options(options)

    def step_async(self, actions: np.ndarray) -> None:
        """
        :param actions: one for each env
        :raises ValueError: for an action that the env does not have, with which EnvPool would go on
        :raises RuntimeError: if the step before has not been waited for, or the env was closed
        """
        self._check_idle()
        chosen, space = np.ascontiguousarray(actions, dtype=self._action_dtype), self.action_space
        fits = chosen.shape == (self.num_envs, *(space.shape or ()))
        if fits and isinstance(space, spaces.Discrete):
            is_in = (chosen >= space.start) & (chosen < space.start + space.n) & (chosen == actions)  # 0.7 is no action
            fits = bool(is_in.all())
        if not fits:
            raise ValueError(f"Actions must be {self.num_envs} of {space}, not {actions!r}.")
        self._pool.send(chosen)
        self._begin_step()

    def step_wait(self) -> VecEnvStepReturn:
        self._end_step()
        found, rewards, terminations, truncations, info = self._pool.recv()
        observations = np.array(found, dtype=self.observation_space.dtype)
        infos, dones = _infos(info, self._n_envs), terminations | truncations
        for each in infos:
            each["TimeLimit.truncated"] = False
        self._returns += rewards
        if dones.any():
            over = np.flatnonzero(dones)
            for index in over.tolist():
                infos[index]["terminal_observation"] = observations[index].copy()
                infos[index]["TimeLimit.truncated"] = bool(truncations[index] and not terminations[index])
                self._report(infos[index], round(float(self._returns[index]), 6), int(info["elapsed_step"][index]))
            first, first_info = self._pool.reset(over.astype(np.int32))
            observations[over], self._returns[over] = first, 0
            for index, reset_info in zip(over.tolist(), _infos(first_info, len(over)), strict=True):
                self.reset_infos[index] = reset_info
        return observations, rewards, dones, infos

    def close(self) -> None:
        """End EnvPool's threads; can be called more than once."""
        if not self._is_closed:
            self._pool.close()
        super().close()


def check_envpool_has(env_id: str) -> None:
    """
    :param env_id: an id of Gymnasium
    :raises ImportError: if EnvPool is not installed
    :raises ValueError: if it does not have this env, with the nearest id
    """
    try:
        import envpool
    except ImportError:
        raise ImportError("EnvPool is not installed: pip install 'sb3-stable-ppo[envpool]'.") from None
    known = [name for name in envpool.list_all_envs() if name in gym.envs.registry]
    if env_id not in known:
        raise ValueError(f"EnvPool has no env {env_id!r} of Gymnasium's{did_you_mean(env_id, known)}.")


def check_options(env_id: str, given: Iterable[str]) -> None:
    """
    :param env_id: of EnvPool
    :param given: names of options of its env
    :raises ValueError: for an option that the env does not have
    """
    import envpool

    known = [name for name in envpool.make_spec(env_id).config._fields if name not in OURS]
    for name in given:
        if name not in known:
            raise ValueError(
                f"{env_id} of EnvPool has no option {name!r}{did_you_mean(name, known)}: "
                f"choose from {', '.join(known)}."
            )


def _infos(info: dict[str, Any], n_envs: int) -> list[dict[str, Any]]:
    keys = [key for key in info if key not in NOT_INFO]
    if not keys:
        return [{} for _ in range(n_envs)]
    return [dict(zip(keys, values, strict=True)) for values in zip(*(info[key] for key in keys), strict=True)]
