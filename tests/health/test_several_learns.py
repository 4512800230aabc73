"""HealthCallback over several calls of ``learn()``: a run in pieces is watched as one."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch as th
from stable_baselines3 import DQN, PPO

from helpers.envs import make_cartpole
from helpers.health import SMALL, lines_of
from sb3_stable_ppo import HealthCallback

pytestmark = pytest.mark.slow(seconds=1)


@pytest.mark.parametrize("folder", [True, False])
def test_pieces_of_a_run_are_measured_as_the_whole_is(folder: bool, tmp_path: Path) -> None:
    def dqn() -> Any:
        return DQN("MlpPolicy", make_cartpole(1), learning_starts=20, seed=0)

    whole, pieces = (
        HealthCallback(every=100, folder=tmp_path / name if folder else None, budget=None)
        for name in ("whole", "pieces")
    )
    dqn().learn(400, callback=whole)
    model = dqn()
    for _ in range(10):
        model.learn(40, callback=pieces, reset_num_timesteps=False)
    assert pieces.n_measured == whole.n_measured == 4
    if folder:
        steps = [[line["step"] for line in lines_of(tmp_path / name)] for name in ("whole", "pieces")]
        assert steps[0] == steps[1] == [100, 200, 300, 400]


def test_the_last_healthy_model_of_an_earlier_call_is_kept(tmp_path: Path) -> None:
    model, health = (
        PPO("MlpPolicy", make_cartpole(), **SMALL),
        HealthCallback(every_updates=1, budget=None, folder=tmp_path),
    )
    model.learn(128, callback=health)
    with th.no_grad():
        model.policy.action_net.weight.fill_(float("nan"))
    with suppress(ValueError):
        model.learn(64, callback=health, reset_num_timesteps=False)
    assert health._last_healthy.save(model).startswith("The last healthy model (step 128) is in")
