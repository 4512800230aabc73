"""
EnvPool's envs as an SB3 ``VecEnv``: classic control, Box2D and MuJoCo in C++, all envs of a batch in one call.
"""

from __future__ import annotations

import warnings
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


class EnvPoolVecEnv(BatchVecEnv):
    """
    Envs of EnvPool (https://github.com/sail-sg/envpool), which has Gymnasium's classic control, Box2D and MuJoCo envs
    rewritten in C++ by the same ids. Needs the extra ``sb3-stable-ppo[envpool]``.

    A finished episode begins anew in the same step; ``terminal_observation``, ``TimeLimit.truncated`` and ``episode``
    are in its info, as SB3's ``DummyVecEnv`` and ``Monitor`` have it. An env draws other random numbers than
    Gymnasium's of the same seed, so its episodes are others.

    :param env_id: an id that EnvPool and Gymnasium know, such as ``Hopper-v5``
    :param n_envs: number of envs
    :param seed: of the first env; the others count on from it
    :param num_threads: that step the envs; 0: as many as torch has, n_envs at most: they take turns with torch's
    :param monitor_dir: where to write SB3's ``0.monitor.csv``, a line per episode of any env; None: not at all
    :param env_kwargs: of EnvPool's env, such as ``max_episode_steps``
    :raises ImportError: if EnvPool is not installed
    :raises ValueError: for an id that EnvPool does not have, observations that are no array, or a number out of range
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
        self._env_id, self._env_kwargs = env_id, env_kwargs
        self._n_envs = whole_number(n_envs, "n_envs", 1)
        self._threads = whole_number(num_threads, "num_threads") or min(self._n_envs, th.get_num_threads())
        self._pool = self._make_pool(int(np.random.default_rng(seed).integers(2**31 - self._n_envs)))
        space, actions = self._space, self._pool.action_space
        if not isinstance(space, (spaces.Box, spaces.Discrete)):
            raise ValueError(f"{env_id} of EnvPool observes {space}; EnvPoolVecEnv takes a Box or a Discrete.")
        spec = gym.spec(env_id)
        super().__init__([Member(spec, space, actions, None) for _ in range(self._n_envs)], monitor_dir)
        self._returns = np.zeros(self._n_envs)
        self.seed(seed)

    def _make_pool(self, seed: int) -> Any:
        import envpool  # an extra

        with warnings.catch_warnings():
            # of its spaces' bounds, which are float64
            warnings.filterwarnings("ignore", ".*precision lowered by casting", UserWarning)
            pool = envpool.make(
                self._env_id,
                env_type="gymnasium",
                num_envs=self._n_envs,
                num_threads=self._threads,
                seed=seed,
                **self._env_kwargs,
            )
            self._space = pool.observation_space
        return pool

    def reset(self) -> np.ndarray:
        """A new episode in every env, whether or not the last one was over."""
        self._check_open()
        if self._seeds[0] is not None:  # EnvPool takes a seed at its making only
            self._pool.close()
            self._pool = self._make_pool(self._seeds[0] % (2**31 - self._n_envs))
        observations, info = self._pool.reset()
        self._reset_seeds()
        self._reset_options()
        self._returns[:] = 0
        self.reset_infos = _infos(info, self._n_envs)
        return np.array(observations)

    def step_async(self, actions: np.ndarray) -> None:
        """
        :param actions: one for each env
        :raises ValueError: for an action that the env does not have, with which EnvPool would go on
        """
        self._check_open()
        chosen, space = np.ascontiguousarray(actions, dtype=self.action_space.dtype), self.action_space
        fits = chosen.shape == (self.num_envs, *(space.shape or ()))
        if fits and isinstance(space, spaces.Discrete):
            fits = bool(((chosen >= space.start) & (chosen < space.start + space.n)).all())
        if not fits:
            raise ValueError(f"Actions must be {self.num_envs} of {space}, not {actions!r}.")
        self._pool.send(chosen)
        self._begin_step()

    def step_wait(self) -> VecEnvStepReturn:
        self._end_step()
        found, rewards, terminations, truncations, info = self._pool.recv()
        observations, infos, dones = np.array(found), _infos(info, self._n_envs), terminations | truncations
        self._returns += rewards
        if dones.any():
            over = np.flatnonzero(dones)
            for index in over.tolist():
                infos[index]["terminal_observation"] = found[index]
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
    :raises ValueError: if it does not have this env, with the nearest ids
    """
    try:
        import envpool
    except ImportError:
        raise ImportError("EnvPool is not installed: pip install 'sb3-stable-ppo[envpool]'.") from None
    known = envpool.list_all_envs()
    if env_id not in known:
        raise ValueError(f"EnvPool has no {env_id}{did_you_mean(env_id, known)}. Choose vec_env: dummy.")
    if env_id not in gym.envs.registry:
        raise ValueError(f"Gymnasium has no {env_id}, in which its scores would be evaluated.")


def _infos(info: dict[str, Any], n_envs: int) -> list[dict[str, Any]]:
    keys = [key for key in info if key not in NOT_INFO]
    if not keys:
        return [{} for _ in range(n_envs)]
    return [dict(zip(keys, values, strict=True)) for values in zip(*(info[key] for key in keys), strict=True)]
