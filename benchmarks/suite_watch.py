"""
What the suite puts on record while a run trains.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from statistics import mean
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy

from pong import make_pong
from sb3_stable_ppo.probes.rows import strided_observations

EPISODES, WORTH_A_CHECK, MARK = 20, 15.0, 18.0
CHECK_EVERY, EVERY_UNTIL, LATER_CHECK_EVERY = 25_000, 500_000, 100_000
"""Steps between two checks, until a step, and from then on."""
UPDATE_EVERY = 20
"""Updates between two that are put on record."""
LOGGED = ("approx_kl", "clip_fraction", "entropy_loss", "explained_variance", "learning_rate")
REMEMBERED = ("games", "updates", "checks", "resumed_at", "rows", "_n_rollouts", "_next_check")


class Watch(BaseCallback):
    """Games, updates and checks of a run; it draws no random number of the run's."""

    def __init__(self, seed: int, checks: bool) -> None:
        super().__init__()
        self.games: list[list[float]] = []
        self.updates: list[dict[str, float]] = []
        self.checks: list[list[float]] = []
        self.resumed_at: list[int] = []
        self.rows: Any = None
        self.seed, self._n_rollouts, self._earlier_seconds, self._started = seed, 0, 0.0, time.perf_counter()
        self._next_check: float = CHECK_EVERY if checks else math.inf

    @property
    def seconds(self) -> float:
        """Of training so far, without checks and without what was lost between a checkpoint and a stop."""
        return self._earlier_seconds + time.perf_counter() - self._started

    def state_dict(self) -> dict[str, Any]:
        """For RunCheckpoint."""
        return {**{name: getattr(self, name) for name in REMEMBERED}, "_earlier_seconds": self.seconds}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        vars(self).update(state)
        self.resumed_at = [*self.resumed_at, self.num_timesteps]
        self._started = time.perf_counter()

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "episode" in info:
                self.games.append([self.num_timesteps, info["episode"]["r"]])
        return True

    def _on_rollout_end(self) -> None:
        buffer = self.model.rollout_buffer  # type: ignore[attr-defined]  # train() flattens it
        self.rows = self.model.policy.obs_to_tensor(strided_observations(buffer, 64))[0]

    def _on_rollout_start(self) -> None:
        logged: Any = self.logger.name_to_value
        self._n_rollouts += 1
        if self._n_rollouts % UPDATE_EVERY == 0:
            names = [*(f"train/{name}" for name in LOGGED), "norm/commit_kl", "norm/first_ratio_error"]
            found = {name.partition("/")[2]: float(f"{logged[name]:.4g}") for name in names if name in logged}
            self.updates.append({"step": self.num_timesteps, **found})
            last = mean([game[1] for game in self.games[-30:]] or [math.nan])
            print(f"{self.num_timesteps:,} steps, last 30 games {last:.1f}", found, file=sys.stderr, flush=True)
        if self.num_timesteps >= self._next_check:
            self._next_check += CHECK_EVERY if self.num_timesteps < EVERY_UNTIL else LATER_CHECK_EVERY
            if mean([game[1] for game in self.games[-30:]] or [-21]) >= WORTH_A_CHECK:
                self._check()

    def _check(self) -> None:
        start = time.perf_counter()
        scores = self.play()
        if scores >= MARK and all(confirmed < MARK for *_, confirmed in self.checks):
            self.checks.append([self.num_timesteps, scores, self.play()])
        else:
            self.checks.append([self.num_timesteps, scores, -21.0])
        self._started += time.perf_counter() - start

    def play(self) -> float:
        """Mean return of fresh games in SB3's own env; the random state of the run stays as it is."""
        env = make_pong(100_000 + 1000 * self.seed + len(self.checks), 8)
        with th.random.fork_rng(devices=[]):
            scores, _ = evaluate_policy(self.model, env, EPISODES, deterministic=False)
        env.close()
        return float(np.mean(scores))
