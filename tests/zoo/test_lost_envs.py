"""An env that crashes is a failure; only after Ctrl-C are its lost processes part of the end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import yaml
from gymnasium.envs.classic_control import CartPoleEnv

from helpers.processes import LIMIT, TESTS
from helpers.tuning import with_ctrl_c
from sb3_stable_ppo import StablePPO
from sb3_stable_ppo.runs.folder import RunReader


class Crash(CartPoleEnv):
    """At its fifth step the env of one seed does what ``CRASH`` says."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.count = 0
        self.is_chosen = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        if seed is not None:
            self.is_chosen = seed == 1  # of the envs with seeds 0 and 1, the second
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        self.count += 1
        if self.is_chosen and self.count >= 5:
            crash = os.environ["CRASH"]
            if crash == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if crash == "ctrl-c":
                os.killpg(os.getpgrp(), signal.SIGINT)
                time.sleep(1)  # the answer comes late, as the interruption does
            if crash == "sigterm":  # a scheduler's, to the main process alone
                os.kill(int(os.environ["MAIN_PID"]), signal.SIGTERM)
                time.sleep(3)
            raise {"eof": EOFError, "pipe": BrokenPipeError, "bug": KeyError}.get(crash, OSError)(
                "lost the game server"
            )
        return super().step(action)


gym.register("Crash-v0", entry_point="zoo_crash_env:Crash" if __name__ == "zoo_crash_env" else Crash)


def train(folder: Path, crash: str, vec_env: str) -> "subprocess.CompletedProcess[str]":
    """``train`` as a terminal starts it."""
    entry = {"policy": "StableMlpPolicy", "n_envs": 2, "n_steps": 16, "batch_size": 16, "n_timesteps": 64}
    (folder / "config.yml").write_text(yaml.safe_dump({"Crash-v0": entry}))
    (folder / "zoo_crash_env.py").write_text(Path(__file__).read_text())
    paths = os.pathsep.join([str(folder), str(TESTS)])
    code = (
        "import os, sys; os.environ['MAIN_PID'] = str(os.getpid())\n"
        "from sb3_stable_ppo.cli.app import main\nsys.exit(main(sys.argv[1:]))"
    )
    call = ["train", "--env", "Crash-v0", "--gym-packages", "zoo_crash_env", "--vec-env", vec_env, "--seed", "0"]
    flags = [
        "-conf",
        str(folder / "config.yml"),
        "-f",
        str(folder / "logs"),
        "--eval-freq",
        "-1",
        "--no-report",
        "--no-progress",
    ]
    return subprocess.run(
        [sys.executable, "-c", code, *call, *flags],
        env={**os.environ, "PYTHONPATH": paths, "CRASH": crash},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        start_new_session=True,
        preexec_fn=with_ctrl_c,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("crash", "vec_env", "told"),
    [
        ("kill", "subproc", "the process of env 1 has ended (SIGKILL, often for lack of memory)"),
        ("eof", "subproc", "the process of env 1 has ended (exit status 0)"),
        ("bug", "subproc", "the process of env 1 has ended (exit status 1)"),
        ("eof", "dummy", "an env or a callback has lost a connection (EOFError: lost the game server)"),
        ("pipe", "dummy", "an env or a callback has lost a connection (BrokenPipeError: lost the game server)"),
    ],
)
def test_a_lost_env_is_a_failure_whose_model_is_saved(crash: str, vec_env: str, told: str, tmp_path: Path) -> None:
    done = train(tmp_path, crash, vec_env)
    assert done.returncode == 1, done.stderr
    assert told in done.stderr.splitlines()[-1]
    folder = tmp_path / "logs" / "stable_ppo" / "Crash-v0_1"
    facts = RunReader(folder).facts
    assert facts["status"] == "failed"
    assert told in facts["error"]
    assert StablePPO.load(folder / "Crash-v0.zip").num_timesteps == facts["num_timesteps"] == 8


@pytest.mark.slow
@pytest.mark.parametrize("crash", ["kill", "bug"])
def test_an_env_that_may_be_started_anew_is_no_failure(crash: str, tmp_path: Path) -> None:
    done = train(tmp_path, crash, "restarting")
    assert done.returncode == 0, done.stderr
    assert "The worker of env 1 has died of" in done.stderr
    folder = tmp_path / "logs" / "stable_ppo" / "Crash-v0_1"
    facts = RunReader(folder).facts
    assert (facts["status"], facts["num_timesteps"]) == ("finished", 64)
    assert yaml.load((folder / "Crash-v0" / "args.yml").read_text(), yaml.UnsafeLoader)["vec_env"] == "restarting"


@pytest.mark.slow
@pytest.mark.parametrize("vec_env", ["subproc", "restarting"])
@pytest.mark.parametrize("crash", ["ctrl-c", "sigterm"])
def test_an_interruption_in_the_middle_of_a_step_is_no_failure(crash: str, vec_env: str, tmp_path: Path) -> None:
    done = train(tmp_path, crash, vec_env)
    assert done.returncode == {"ctrl-c": 130, "sigterm": 143}[crash], done.stderr
    folder = tmp_path / "logs" / "stable_ppo" / "Crash-v0_1"
    assert RunReader(folder).facts["status"] == "stopped"
    steps = {"subproc": 8, "restarting": 32}[vec_env]  # with new workers the rollout comes to its end
    assert StablePPO.load(folder / "Crash-v0.zip").num_timesteps == steps
