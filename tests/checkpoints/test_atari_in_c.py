"""A run on ALE's C++ envs, whose state cannot be saved, goes on exactly where they are resumable."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecNormalize

from helpers.processes import LIMIT
from helpers.resumed import Setup, assert_goes_on_exactly, go_on, rows, train
from sb3_stable_ppo.algorithms import StablePPO
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.envs.atari_vec_env import AtariVecEnv

pytestmark = pytest.mark.slow(seconds=1)

PONG, BREAKOUT = "PongNoFrameskip-v4", "BreakoutNoFrameskip-v4"
N_STEPS: dict[str, Any] = {"n_steps": 32, "batch_size": 32, "n_epochs": 2, "device": "cpu"}
RUN: dict[str, Any] = {"total": 384, "every": 128, "kill_at": 230, "log_interval": 1}
"""Of two envs: 192 steps each, checkpoints after 64 and 128, the end at step 115 of 192."""


def small_images(env: VecEnv) -> StablePPO:
    return StablePPO("StableCnnPolicy", env, seed=1, **N_STEPS)


def flat(env: VecEnv) -> PPO:
    return PPO("MlpPolicy", env, seed=1, policy_kwargs={"net_arch": [8]}, **N_STEPS)


def atari(env_id: str = PONG, **options: Any) -> AtariVecEnv:
    return AtariVecEnv(env_id, 2, seed=3, screen_size=36, resumable=True, **options)


@pytest.mark.parametrize(
    "reset_every",
    [
        pytest.param(90, id="a reset between checkpoint and kill, and one after them"),
        pytest.param(63, id="a reset just before a checkpoint"),
        pytest.param(64, id="a reset at a checkpoint", marks=pytest.mark.slow),
        pytest.param(10**4, id="no reset", marks=pytest.mark.slow),
        pytest.param(21, id="many resets", marks=pytest.mark.slow),
    ],
)
def test_stable_ppo_goes_on_exactly_wherever_the_resets_are(reset_every: int, tmp_path: Path) -> None:
    assert_goes_on_exactly(Setup(lambda: atari(reset_every=reset_every), small_images), tmp_path, **RUN)


def test_wrappers_and_sticky_actions_and_lives_go_on_exactly(tmp_path: Path) -> None:
    def env() -> VecEnv:
        inner = atari(BREAKOUT, reset_every=50, frame_stack=1, action_repeat_probability=0.25, clip_reward=False)
        return VecNormalize(VecFrameStack(inner, 2), norm_obs=False)

    assert_goes_on_exactly(Setup(env, flat), tmp_path, **RUN)


@pytest.mark.slow
def test_the_env_of_an_evaluation_goes_on_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gym.spec(PONG).kwargs, "max_num_frames_per_episode", 80)

    def callbacks() -> list[Any]:
        env = AtariVecEnv(PONG, 1, seed=9, screen_size=36, resumable=True, reset_every=50)
        return [EvalCallback(env, n_eval_episodes=2, eval_freq=40, verbose=0)]

    assert_goes_on_exactly(Setup(lambda: atari(reset_every=70), flat, callbacks), tmp_path, **RUN)


@pytest.mark.slow
def test_the_games_in_the_monitor_file_are_those_of_the_unbroken_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(gym.spec(PONG).kwargs, "max_num_frames_per_episode", 120)
    folders = iter(("unbroken", "broken", "broken"))

    def env() -> VecEnv:
        return atari(reset_every=80, monitor_dir=tmp_path / "monitors" / next(folders))

    def games(name: str) -> list[tuple[str, str]]:
        with (tmp_path / "monitors" / name / "0.monitor.csv").open() as file:
            file.readline()
            return [(row["r"], row["l"]) for row in csv.DictReader(file)]

    assert_goes_on_exactly(Setup(env, flat), tmp_path, **RUN)
    assert games("broken") == games("unbroken")
    assert len(games("unbroken")) == 2 * 5  # at steps 30, 60 | 110, 140 | 190


SCRIPT = """
import sys
from pathlib import Path
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.logger import configure
from sb3_stable_ppo.checkpoints import RunCheckpoint, resume
from sb3_stable_ppo.envs import AtariVecEnv

folder = sys.argv[1]
env = AtariVecEnv("PongNoFrameskip-v4", 2, seed=3, screen_size=36, resumable=True, reset_every=70)
if (Path(folder) / "checkpoints").exists():
    model = resume(folder, env)
else:
    model = PPO("MlpPolicy", env, n_steps=32, batch_size=32, policy_kwargs={"net_arch": [8]}, seed=1, device="cpu")
    model.set_logger(configure(folder, ["csv"]))
    model.learn(1024, callback=RunCheckpoint(every=64))
th.save(model.get_parameters(), folder + "/parameters.pt")
"""


@pytest.mark.slow(seconds=60)
def test_a_process_that_is_killed_twice_goes_on_in_new_ones(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"

    def start(folder: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, str(script), str(folder)], env={**os.environ, "OMP_NUM_THREADS": "1"})

    assert start(unbroken).wait(LIMIT) == 0
    for at_least in (128, 448):
        process = start(broken)
        until = time.monotonic() + LIMIT
        while not list((broken / "checkpoints").glob(f"*{at_least}")) and time.monotonic() < until:
            time.sleep(0.001)
        process.kill()
        assert process.wait(LIMIT) == -signal.SIGKILL
    assert start(broken).wait(LIMIT) == 0
    assert (broken / "parameters.pt").read_bytes() == (unbroken / "parameters.pt").read_bytes()
    assert rows(broken) == rows(unbroken)


@pytest.mark.parametrize(
    ("other", "complaint"),
    [
        (lambda: AtariVecEnv(PONG, 3, screen_size=36, resumable=True), "has n_envs=2, and this one has 3"),
        (lambda: AtariVecEnv(PONG, 2, screen_size=36), "has resumable=True, and this one has not"),
        (lambda: AtariVecEnv(PONG, 2, screen_size=36, resumable=True, noop_max=9), "has noop_max=30"),
    ],
)
def test_a_run_does_not_go_on_in_another_env(other: Any, complaint: str, tmp_path: Path) -> None:
    train(Setup(atari, flat), tmp_path, total=128, every=64, kill_at=100)
    with pytest.raises(UsageError, match=complaint):
        go_on(Setup(other, flat), tmp_path)
