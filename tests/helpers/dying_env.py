"""An env that dies when it is told to, in a module that workers can import."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor

GO_ON, EXIT, RAISE, HANG, LOSE, LEAVE, FINISH, ORPHAN = range(8)
"""Actions: a step; ``os._exit(3)``; a KeyError; no answer; an EOFError; ``sys.exit``; a step that ends the episode;
``os._exit(3)`` with a process left behind."""


class DyingEnv(gym.Env[np.ndarray, int]):
    """Observes the step of the episode, a random number of the episode, and what ``level`` is."""

    def __init__(self, n_actions: int = 8) -> None:
        self.observation_space = spaces.Box(-1e6, 1e6, (3,), np.float32)
        self.action_space = spaces.Discrete(n_actions)
        self.lock = threading.Lock()
        self.level, self.steps, self.drawn = 0.0, 0, 0.0
        self.death_at_reset = GO_ON

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.die(self.death_at_reset)
        self.steps, self.drawn = 0, float(self.np_random.uniform())
        return self.observe(), {"seed": seed, "options": options}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.die(action)
        self.steps += 1
        return self.observe(), 1.0, action == FINISH, False, {}

    def observe(self) -> np.ndarray:
        return np.array([self.steps, self.drawn, self.level], np.float32)

    def die_at_reset(self, how: int) -> None:
        self.death_at_reset = how

    def die(self, how: int) -> None:
        if how == ORPHAN and os.fork() == 0:
            time.sleep(15)
            os._exit(0)
        if how in (EXIT, ORPHAN):
            os._exit(3)
        if how == RAISE:
            raise KeyError("lost the ball")
        if how == HANG:
            time.sleep(400)
        if how == LOSE:
            raise EOFError("lost the game server")
        if how == LEAVE:
            sys.exit(4)

    def fail(self, error: Exception) -> None:
        raise error

    def fail_for_two_reasons(self) -> None:
        raise Unpicklable("one", "two")


class Unpicklable(Exception):
    """An exception that another process cannot rebuild."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


def monitored() -> gym.Env[Any, Any]:
    return Monitor(DyingEnv())


def fragile() -> gym.Env[Any, Any]:
    """Goes on, exits or raises."""
    return DyingEnv(n_actions=3)


def never_made() -> gym.Env[Any, Any]:
    raise AttributeError("no such map")


def ends_at_once() -> gym.Env[Any, Any]:
    os._exit(5)


def never_begins() -> gym.Env[Any, Any]:
    env = DyingEnv()
    env.death_at_reset = RAISE
    return env
