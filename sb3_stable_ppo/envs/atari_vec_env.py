"""
ALE's C++ vector env as an SB3 ``VecEnv``: all games of a batch step in C++ threads, stacked frames come channels first.

What differs from SB3's own ``make_atari_env`` is listed in docs/fast_path.md.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import ale_py
import numpy as np
import torch as th
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from sb3_stable_ppo.common.checks import whole_number
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.envs.action_log import ActionLog
from sb3_stable_ppo.envs.atari_ids import atari_spec, frame_skip_of
from sb3_stable_ppo.envs.batch_vec_env import BatchVecEnv, Member
from sb3_stable_ppo.fast.threads import affinity_offset, batch_scheduling

RESET_EVERY = 27_000
"""Steps: as many as a game can have, since ALE ends it after 108,000 frames, which are four a step."""


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
    score are in its info, as SB3's wrappers have it. ``episode["l"]`` counts as SB3's does: frames for ``NoFrameskip``,
    else steps. A no-op at the start of a game counts 1 in both.

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
    :param resumable: whether a run can go on exactly after a kill, as docs/reliability.md tells: every ``reset_every``
        steps all games end as truncated, without an ``episode`` in their infos, and others begin with new seeds
    :param reset_every: steps of each env; it counts with ``resumable`` alone
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
        resumable: bool = False,
        reset_every: int = RESET_EVERY,
    ) -> None:
        spec = atari_spec(env_id)
        n_envs = whole_number(n_envs, "n_envs", 1)
        screen_size = whole_number(screen_size, "screen_size", 1)
        frame_stack = whole_number(frame_stack, "frame_stack", 1)
        frame_skip = frame_skip_of(spec) if frame_skip is None else whole_number(frame_skip, "frame_skip", 1)
        noop_max = whole_number(noop_max, "noop_max")
        if action_repeat_probability is None:
            action_repeat_probability = float(spec.kwargs["repeat_action_probability"])
        reset_every = whole_number(reset_every, "reset_every", 1)
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
        self.clip_reward = clip_reward
        settings = {
            "env_id": env_id,
            "n_envs": n_envs,
            "noop_max": noop_max,
            "frame_skip": frame_skip,
            "screen_size": screen_size,
            "frame_stack": frame_stack,
            "terminal_on_life_loss": terminal_on_life_loss,
            "clip_reward": clip_reward,
            "action_repeat_probability": action_repeat_probability,
            "reset_every": reset_every,
        }
        self._log = ActionLog(settings, reset_every) if resumable else None
        space, actions = self._ale.single_observation_space, self._ale.single_action_space
        meanings = [action.name for action in self._ale.ale.get_action_set()]
        games = [AtariGame(meanings, spec, space, actions, "rgb_array") for _ in range(n_envs)]
        super().__init__(games, monitor_dir)
        self._n_actions = len(meanings)
        self._scores = np.zeros(self.num_envs)
        self._starts = np.zeros(self.num_envs, dtype=np.int64)
        self._openings = np.zeros(self.num_envs, dtype=np.int64)
        """Frames that each game's start took."""
        self._frames_counted_as_one = 1 if spec.kwargs["frameskip"] == 1 else frame_skip
        self._observations = np.zeros((self.num_envs, *(space.shape or ())), dtype=np.uint8)
        self.seed(seed)

    def reset(self) -> np.ndarray:
        """A new game in every env, whether or not the last one was over."""
        self._check_open()
        if self._is_stepping:  # an interrupt came between the two halves of a step
            self._ale.recv()
            self._is_stepping = False
        self._start(self._seeds if self._log is None else self._log.begin(self._seeds))
        self._reset_seeds()
        self._reset_options()
        return self._observations

    def _start(self, seeds: Sequence[int | None]) -> None:
        """A new game in every env."""
        # ALE's seeds are C++ ints, VecEnv.seed draws up to 2**32 - 1; -1 goes on with the random state there is
        within = np.array([-1 if seed is None else int(seed) % 2**31 for seed in seeds])
        self._observations, info = self._ale.reset(seed=within)
        self._scores[:] = 0
        self._starts = info["frame_number"] - info["episode_frame_number"]
        self._openings[:] = info["episode_frame_number"]
        self.reset_infos = _infos(info)

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
        if self._log is not None:
            self._log.add(chosen)
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
        if self._log is not None and self._log.is_full:
            self._cut(self._log, dones, infos)
        shown = np.sign(rewards) if self.clip_reward else rewards
        return self._observations, shown.astype(np.float32), dones, infos

    def _end_game(self, info: dict[str, Any], index: int, frames: int) -> None:
        opening = int(self._openings[index])
        length = opening - (opening - frames) // self._frames_counted_as_one  # the last step may be cut short
        self._report(info, float(self._scores[index]), length)
        self._scores[index], self._openings[index] = 0, info["episode_frame_number"]
        self.reset_infos[index] = {key: info[key] for key in ("lives", "frame_number", "episode_frame_number")}

    def _cut(self, log: ActionLog, dones: np.ndarray, infos: list[dict[str, Any]]) -> None:
        """End all games at a step that is the same in every run, so that a checkpoint need not go back any further."""
        last = self._observations
        self._start(log.begin([None] * self.num_envs))
        for index, info in enumerate(infos):
            if not dones[index]:
                info["terminal_observation"], info["TimeLimit.truncated"] = last[index], True
            info.update(self.reset_infos[index])
        dones[:] = True

    def state_dict(self) -> dict[str, Any] | None:
        """
        What leads back to this state: the seeds of the last reset, and the actions since, one byte each.

        :return: None without ``resumable``
        :raises RuntimeError: within a step
        """
        if self._log is None:
            return None
        self._check_idle()
        return {
            **self._log.state_dict(),
            "given_seeds": list(self._seeds),
            "fingerprint": self._fingerprint(),
            "ale_py": ale_py.__version__,
            "t_start": self._t_start,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Play the actions again. A warning tells if the games went another way, as in another version of ALE they may.

        :param state: of :meth:`state_dict`
        :raises UsageError: if it is of an env that was built in another way
        """
        if self._log is None:
            raise UsageError(
                "The AtariVecEnv of the checkpoint has resumable=True, and this one has not: build it as in the first "
                "run."
            )
        self._check_idle()
        self._log.load_state_dict(state)
        results, self._results = self._results, None  # the monitor's lines are there already
        try:
            if state["seeds"]:
                self._start(self._log.seeds)
            for actions in state["actions"]:
                self.step(actions)
        finally:
            self._results = results
        self._seeds, self._t_start = list(state["given_seeds"]), state["t_start"]
        if self._fingerprint() != state["fingerprint"]:
            warnings.warn(
                f"The games went another way when the last {len(state['actions']):,} steps were played again (ale-py "
                f"{state['ale_py']} then, {ale_py.__version__} now): the run continues, not bit for bit.",
                stacklevel=2,
            )

    def _fingerprint(self) -> tuple[int, list[float], list[int]]:
        """Of where the games stand."""
        return zlib.crc32(self._observations.tobytes()), self._scores.tolist(), self._starts.tolist()

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
