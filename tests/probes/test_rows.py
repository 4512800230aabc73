"""Which observations of a buffer are looked at."""

import numpy as np
from stable_baselines3 import DQN, PPO

from helpers.envs import make_cartpole
from sb3_stable_ppo.probes.rows import recent_observations, strided_observations


def test_rows_are_spread_evenly_over_steps_and_envs() -> None:
    buffer = PPO("MlpPolicy", make_cartpole(4), n_steps=8, batch_size=8).rollout_buffer
    buffer.observations = np.arange(32, dtype=np.float32).reshape(8, 4, 1).repeat(4, axis=2)
    assert strided_observations(buffer, 4)[:, 0].tolist() == [0, 10, 20, 31]
    assert len(strided_observations(buffer, 64)) == 32


def test_rows_of_a_replay_buffer_are_recent_and_never_unwritten() -> None:
    buffer = DQN("MlpPolicy", make_cartpole(2), buffer_size=40).replay_buffer
    assert len(recent_observations(buffer, 4)) == 0
    for step in range(25):  # 20 fit, two envs each
        row = np.full((2, 4), step, dtype=np.float32)
        buffer.add(row, row, np.zeros((2, 1)), np.zeros(2), np.zeros(2), [{}, {}])
        rows = recent_observations(buffer, 4)
        assert rows[:, 0].max() == step
        assert rows[:, 0].min() >= max(step - 19, 0)
