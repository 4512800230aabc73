"""One task after another: the shifts, and the returns by task."""

from __future__ import annotations

import numpy as np

from helpers.benchmarks import load


def test_each_task_adds_its_own_constant_and_the_first_adds_none() -> None:
    shifted = load("shifted")["shifted_env"]
    env, plain = (shifted("CartPole-v1", seed=3, tasks=tasks, task_steps=2) for tasks in (3, 1))
    differences = [env.reset(seed=5)[0] - plain.reset(seed=5)[0]]
    differences += [env.step(step % 2)[0] - plain.step(step % 2)[0] for step in range(5)]
    shifts = np.random.default_rng(3).normal(0, 2, (3, 4))
    expected = [np.zeros(4), np.zeros(4), shifts[1], shifts[1], shifts[2], shifts[2]]
    np.testing.assert_allclose(differences, expected, atol=1e-6)


def test_rewards_are_divided_and_the_monitor_reports_them_as_they_are() -> None:
    env = load("shifted")["shifted_env"]("CartPole-v1", 0, tasks=1, task_steps=10, longest=3, reward_scale=20.0)
    env.reset(seed=0)
    steps = [env.step(action) for action in (0, 1, 0)]
    assert [reward for _, reward, *_ in steps] == [0.05] * 3
    assert steps[-1][3]
    assert steps[-1][4]["episode"]["r"] == 3.0


def test_returns_belong_to_the_task_in_which_their_episode_ended() -> None:
    found = load("shifted")["task_returns"]([(2, 1.0), (4, 3.0), (5, 7.0), (12, 5.0)], 3, 4)
    assert found == {"returns": [2.0, 7.0, 5.0], "late_returns": [3.0, None, 5.0]}
