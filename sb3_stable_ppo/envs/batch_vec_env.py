"""
What vec envs have in common whose envs live in C++: one object for all of them, and none in Python for each.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor, ResultsWriter
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices


class Member:
    """
    What ``get_attr``, ``set_attr`` and ``env_method`` reach: one env of a :class:`BatchVecEnv`.

    :param spec: its Gymnasium spec
    :param observation_space: of one env
    :param action_space: of one env
    :param render_mode: ``rgb_array``, or None
    """

    def __init__(
        self, spec: Any, observation_space: spaces.Space[Any], action_space: spaces.Space[Any], render_mode: str | None
    ) -> None:
        self.spec, self.render_mode = spec, render_mode
        self.metadata = {"render_modes": [] if render_mode is None else [render_mode]}
        self.observation_space, self.action_space = observation_space, action_space

    @property
    def unwrapped(self) -> Member:
        """Itself: there are no wrappers."""
        return self


class BatchVecEnv(VecEnv):
    """
    Base of such a vec env: a :class:`Member` stands for each env, episodes are reported as SB3's ``Monitor`` does it.

    :param members: one for each env
    :param monitor_dir: where to write SB3's ``0.monitor.csv``, a line per episode of any env; None: not at all
    """

    reset_infos: list[dict[str, Any]]

    def __init__(self, members: Sequence[Member], monitor_dir: str | Path | None) -> None:
        self._members = list(members)
        first = self._members[0]
        super().__init__(len(self._members), first.observation_space, first.action_space)
        self._is_stepping = self._is_closed = False
        self._t_start = time.time()
        self._results: ResultsWriter | None = None
        if monitor_dir is not None:
            Path(monitor_dir).mkdir(parents=True, exist_ok=True)
            header: dict[str, Any] = {"t_start": self._t_start, "env_id": first.spec.id}
            self._results = ResultsWriter(str(Path(monitor_dir) / "0"), header=header)

    def _report(self, info: dict[str, Any], episode_return: float, length: int) -> None:
        """Tell an episode that is over as ``Monitor`` does: in its info, and in the file."""
        info["episode"] = {"r": episode_return, "l": length, "t": round(time.time() - self._t_start, 6)}
        if self._results is not None:
            self._results.write_row(info["episode"])

    def _begin_step(self) -> None:
        self._is_stepping = True

    def _end_step(self) -> None:
        if not self._is_stepping:
            raise RuntimeError("step_wait() waits for a step that step_async() has begun; there is none.")
        self._is_stepping = False

    def _check_open(self) -> None:
        if self._is_closed:
            raise RuntimeError(f"This {type(self).__name__} was closed: make another one.")

    def _check_idle(self) -> None:
        self._check_open()
        if self._is_stepping:
            raise RuntimeError(
                "step_async() has begun a step that nothing has waited for: call step_wait() first, or reset()."
            )

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError(
            f"{type(self).__name__} lives in C++ and can be neither pickled nor copied. Save its model instead "
            "(model.save), which leaves the env out."
        )

    def close(self) -> None:
        """Can be called more than once."""
        if self._results is not None:
            self._results.close()
            self._results = None
        self._is_closed = True

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        return [getattr(member, attr_name) for member in self._chosen(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        for member in self._chosen(indices):
            setattr(member, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        return [getattr(member, method_name)(*method_args, **method_kwargs) for member in self._chosen(indices)]

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """True for ``Monitor``, whose ``episode`` infos such an env gives: ``evaluate_policy`` asks for it."""
        return [issubclass(Monitor, wrapper_class) for _ in self._chosen(indices)]

    def _chosen(self, indices: VecEnvIndices) -> list[Member]:
        return [self._members[index] for index in self._get_indices(indices)]
