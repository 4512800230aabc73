"""Workers are forked from a process that has SB3 imported, and differ where fresh processes would."""

import sys

import pytest

from helpers.processes import run_python

pytestmark = [pytest.mark.skipif(sys.platform != "linux", reason="it does nothing there"), pytest.mark.slow(seconds=1)]

WORKERS = """
import sys
import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import SubprocVecEnv
from sb3_stable_ppo.envs import RestartingVecEnv, preload_forkserver

class Tells(gym.Env):
    observation_space, action_space = gym.spaces.Box(-1, 1, (1,)), gym.spaces.Discrete(2)

    def __init__(self):
        self.is_forked = "sb3_stable_ppo.envs.worker_imports" in sys.modules
        self.drawn = np.random.random()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}
"""


def told(code: str) -> list[str]:
    return run_python(WORKERS + code).split()


@pytest.mark.parametrize(
    "made", ["preload_forkserver(); env = SubprocVecEnv([Tells] * 3)", "env = RestartingVecEnv([Tells] * 3)"]
)
def test_workers_find_sb3_imported_and_draw_numbers_of_their_own(made: str) -> None:
    code = f"{made}\nprint(*env.get_attr('is_forked'), len(set(env.get_attr('drawn'))))\nenv.close()"
    assert told(code) == ["True"] * 3 + ["3"]


def test_without_it_sb3s_env_is_stock() -> None:
    code = "env = SubprocVecEnv([Tells] * 2)\nprint(*env.get_attr('is_forked'), preload_forkserver())\nenv.close()"
    assert told(code) == ["False"] * 3, "a forkserver that runs cannot be told any more"


def test_what_a_user_preloads_stays_and_a_second_call_changes_nothing() -> None:
    own = "import multiprocessing as mp\nmp.set_forkserver_preload(['json'])\nprint(preload_forkserver())"
    assert told(own) == ["False"]
    assert told("print(preload_forkserver(), preload_forkserver())") == ["True", "True"]
