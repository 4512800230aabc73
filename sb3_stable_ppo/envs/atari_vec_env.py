"""
ALE's C++ vector env as an SB3 ``VecEnv``: all games of a batch step in C++ threads, stacked frames come channels first.

What differs from SB3's own ``make_atari_env`` is listed in docs/fast_path.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from sb3_stable_ppo.common.checks import whole_number
from sb3_stable_ppo.envs.atari_ids import atari_spec, frame_skip_of
from sb3_stable_ppo.envs.batch_vec_env import BatchVecEnv, Member
from sb3_stable_ppo.fast.threads import affinity_offset, batch_scheduling


class AtariGame(Member):
    """
    One game of an :class:`AtariVecEnv`.

    :param meanings: of its actions
    :param args: as of ``Member``
    """

    def __init__(self, meanings: list[str], *args: Any) -> None:
        super().__init__(*args)
        self._meanings = meanings

    def get_action_meanings(self) -> list[str]:
        """As Gymnasium's Atari envs have it."""
        return self._meanings


class AtariVecEnv(BatchVecEnv):
    """
    Atari games with the preprocessing of SB3's ``AtariWrapper`` and ``VecFrameStack``, in C++.

    Observations are uint8 of shape (n_envs, frame_stack, screen_size, screen_size). A finished game begins anew in the
    same step; ``terminal_observation``, ``TimeLimit.truncated`` and, at the true game over, ``episode`` with the raw
    score are in its info, as SB3's wrappers have it. ``episode["l"]`` counts emulator frames, as SB3's does.

    :param env_id: a Gymnasium id such as ``PongNoFrameskip-v4``
    :param n_envs: number of games
    :param seed: of the first game; the others count on from it
    :param noop_max: a game begins with up to so many no-ops
    :param frame_skip: each action is repeated so often; None: as the id has it, 4 for ``NoFrameskip``
    :param screen_size: height and width of a frame
    :param frame_stack: frames per observation
    :param terminal_on_life_loss: whether a lost life ends an episode (the game goes on)
    :param clip_reward: whether a reward becomes its sign
    :param action_repeat_probability: of sticky actions; None: as the id has it
    :param num_threads: emulator threads; 0: as many as torch has (``torch.set_num_threads``, ``OMP_NUM_THREADS``, the
        zoo's ``--num-threads``), n_envs at most: they take turns with torch's
    :param monitor_dir: where to write SB3's ``0.monitor.csv``, a line per game of any env; None: not at all
    :raises ValueError: for an id that is not Atari, a missing ROM, or a number out of range
    """

    def __init__(
        self,
        env_id: str,
        n_envs: int = 1,
        seed: int | None = None,
        *,
        noop_max: int = 30,
        frame_skip: int | None = None,
        screen_size: int = 84,
        frame_stack: int = 4,
        terminal_on_life_loss: bool = True,
        clip_reward: bool = True,
        action_repeat_probability: float | None = None,
        num_threads: int = 0,
        monitor_dir: str | Path | None = None,
    ) -> None:
        spec = atari_spec(env_id)
        n_envs = whole_number(n_envs, "n_envs", 1)
        screen_size = whole_number(screen_size, "screen_size", 1)
        frame_stack = whole_number(frame_stack, "frame_stack", 1)
        frame_skip = frame_skip_of(spec) if frame_skip is None else whole_number(frame_skip, "frame_skip", 1)
        noop_max = whole_number(noop_max, "noop_max")
        if action_repeat_probability is None:
            action_repeat_probability = float(spec.kwargs["repeat_action_probability"])
        threads = whole_number(num_threads, "num_threads") or min(n_envs, th.get_num_threads())
        with batch_scheduling():
            self._ale = AtariVectorEnv(
                spec.kwargs["game"],
                n_envs,
                num_threads=threads,
                thread_affinity_offset=affinity_offset(threads),
                max_num_frames_per_episode=spec.kwargs["max_num_frames_per_episode"],
                repeat_action_probability=action_repeat_probability,
                full_action_space=spec.kwargs["full_action_space"],
                autoreset_mode=AutoresetMode.SAME_STEP,
                img_height=screen_size,
                img_width=screen_size,
                stack_num=frame_stack,
                frameskip=frame_skip,
                noop_max=noop_max,
                life_loss_info=terminal_on_life_loss,  # ALE's episodic_life would begin a new game at each lost life
                reward_clipping=False,  # it would lose the raw score
            )
        self._clip_reward = clip_reward
        space, actions = self._ale.single_observation_space, self._ale.single_action_space
        meanings = [action.name for action in self._ale.ale.get_action_set()]
        games = [AtariGame(meanings, spec, space, actions, "rgb_array") for _ in range(n_envs)]
        super().__init__(games, monitor_dir)
        self._n_actions = len(meanings)
        self._scores = np.zeros(self.num_envs)
        self._starts = np.zeros(self.num_envs, dtype=np.int64)
        self._observations = np.zeros((self.num_envs, *(space.shape or ())), dtype=np.uint8)
        self.seed(seed)

    def reset(self) -> np.ndarray:
        """A new game in every env, whether or not the last one was over."""
        self._check_open()
        if self._is_stepping:  # an interrupt came between the two halves of a step
            self._ale.recv()
            self._is_stepping = False
        # ALE's seeds are C++ ints, VecEnv.seed draws up to 2**32 - 1; -1 goes on with the random state there is
        seeds = np.array([-1 if seed is None else int(seed) % 2**31 for seed in self._seeds])
        self._observations, info = self._ale.reset(seed=seeds)
        self._reset_seeds()
        self._reset_options()
        self._scores[:] = 0
        self._starts = info["frame_number"] - info["episode_frame_number"]
        self.reset_infos = _infos(info)
        return self._observations

    def step_async(self, actions: np.ndarray) -> None:
        """
        :param actions: one for each game
        :raises ValueError: for an action that the game does not have, with which ALE would hang
        :raises RuntimeError: if the step before has not been waited for, or the env was closed
        """
        self._check_idle()
        chosen, count = np.ascontiguousarray(actions, dtype=np.int64), self._n_actions
        if chosen.shape != (self.num_envs,) or not ((chosen >= 0) & (chosen < count)).all():
            raise ValueError(f"Actions must be {self.num_envs} whole numbers from 0 to {count - 1}, not {actions!r}.")
        self._ale.send(chosen)
        self._begin_step()

    def step_wait(self) -> VecEnvStepReturn:
        self._end_step()
        observations, rewards, terminations, truncations, info = self._ale.recv()
        self._observations = observations
        self._scores += rewards
        infos, dones = _infos(info), terminations | truncations
        for each in infos:
            each["TimeLimit.truncated"] = False
        if dones.any():
            # A game's first frame: it moves when, and only when, a new game has begun. A lost life moves nothing.
            starts = info["frame_number"] - info["episode_frame_number"]
            for index in np.flatnonzero(dones).tolist():
                over = starts[index] != self._starts[index]
                # At a lost life ALE leaves final_obs unset; the observation is the last one of that life
                infos[index]["terminal_observation"] = (info["final_obs"] if over else observations)[index]
                infos[index]["TimeLimit.truncated"] = bool(truncations[index] and not terminations[index])
                if over:
                    self._end_game(infos[index], index, int(starts[index] - self._starts[index]))
            self._starts = starts
        return observations, (np.sign(rewards) if self._clip_reward else rewards).astype(np.float32), dones, infos

    def _end_game(self, info: dict[str, Any], index: int, frames: int) -> None:
        self._report(info, float(self._scores[index]), frames)
        self._scores[index] = 0
        self.reset_infos[index] = {key: info[key] for key in ("lives", "frame_number", "episode_frame_number")}

    def close(self) -> None:
        """End the emulator's threads; can be called more than once."""
        super().close()
        self._ale.__dict__.pop("ale", None)  # the threads end with it

    def get_images(self) -> Sequence[np.ndarray | None]:
        """The newest frame of each game, gray as the policy sees it, shape (height, width, 3)."""
        return [np.repeat(frames[-1][..., None], 3, axis=-1) for frames in self._observations]


def _infos(info: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    keys: Iterable[str] = ("lives", "frame_number", "episode_frame_number")
    return [dict(zip(keys, values, strict=True)) for values in zip(*(info[key].tolist() for key in keys), strict=True)]
