"""A process that is killed for real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch as th

from helpers.processes import LIMIT
from helpers.resumed import rows

SCRIPT = """
import sys
from pathlib import Path
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from sb3_stable_ppo.checkpoints import RunCheckpoint, resume

folder, total = sys.argv[1], 2048
th.set_num_threads(1)
env = make_vec_env("CartPole-v1", n_envs=2, seed=3, monitor_dir=folder + "/monitor")
if (Path(folder) / "checkpoints").exists():
    model = resume(folder, env)
else:
    model = PPO("MlpPolicy", env, n_steps=64, batch_size=64, n_epochs=1, policy_kwargs={"net_arch": [8]})
    th.manual_seed(0), __import__("numpy").random.seed(0), model.action_space.seed(0)
    model.set_logger(configure(folder, ["csv"]))
    model.policy.load_state_dict({name: th.full_like(each, 0.01) for name, each in model.policy.state_dict().items()})
    model.learn(total, callback=RunCheckpoint(every=256))
th.save(model.get_parameters(), folder + "/parameters.pt")
"""


def start(script: Path, folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(script), str(folder)], env={**os.environ, "OMP_NUM_THREADS": "1"})


def episodes(folder: Path) -> list[list[str]]:
    """Of the monitors, without their times."""
    files = sorted((folder / "monitor").glob("*.csv"))
    return [[line.rsplit(",", 1)[0] for line in path.read_text().splitlines()[2:]] for path in files]


@pytest.mark.slow(seconds=45)
def test_a_run_that_is_killed_and_resumed_in_new_processes_ends_as_one_that_was_not(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    assert start(script, unbroken).wait(LIMIT) == 0
    for at_least in (256, 1024):
        process = start(script, broken)
        until = time.monotonic() + LIMIT
        while not list((broken / "checkpoints").glob(f"*{at_least}")) and time.monotonic() < until:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        assert process.wait(LIMIT) == -signal.SIGKILL
    assert start(script, broken).wait(LIMIT) == 0
    assert (broken / "parameters.pt").read_bytes() == (unbroken / "parameters.pt").read_bytes()
    assert th.load(broken / "parameters.pt")["policy"].keys()
    assert rows(broken) == rows(unbroken)
    assert episodes(broken) == episodes(unbroken)
    assert len(episodes(broken)[0]) > 10
