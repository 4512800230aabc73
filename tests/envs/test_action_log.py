"""Seeds and actions that lead back to a state."""

from __future__ import annotations

import numpy as np
import pytest

from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.envs.action_log import ActionLog


def log(length: int = 3, **settings: int) -> ActionLog:
    return ActionLog({"n_envs": 2, **settings}, length)


def test_seeds_that_are_given_are_used_and_those_after_them_follow_from_them() -> None:
    first, second = log(), log()
    assert first.seeds == []
    assert first.begin([5, 6]) == second.begin([5, 6]) == [5, 6]
    found = [first.begin([None, None]) for _ in range(3)]
    assert found == [second.begin([None, None]) for _ in range(3)]
    assert len({seed for seeds in [[5, 6], *found] for seed in seeds}) == 8
    assert first.begin([6, 7]) == [6, 7]
    assert first.begin([None, None])[0] == found[0][1]


def test_it_is_full_after_as_many_steps_as_it_is_long_and_empty_after_a_reset() -> None:
    kept = log()
    kept.begin([0, 1])
    for action in range(3):
        assert not kept.is_full
        kept.add(np.array([action, 17]))
    assert kept.is_full
    assert kept.state_dict()["actions"].dtype == np.uint8
    assert kept.state_dict()["actions"].tolist() == [[0, 17], [1, 17], [2, 17]]
    kept.begin([None, None])
    assert kept.state_dict()["actions"].shape == (0, 2)


def test_a_state_is_not_changed_by_what_comes_after() -> None:
    kept = log()
    kept.begin([0, 1])
    kept.add(np.array([1, 1]))
    state = kept.state_dict()
    kept.begin([None, None])
    kept.add(np.array([2, 2]))
    assert state["actions"].tolist() == [[1, 1]]
    assert state["seeds"] == [0, 1]
    assert state["round"] == 0


def test_a_state_brings_the_seeds_of_the_last_reset_and_of_all_that_follow() -> None:
    kept, other = log(), log()
    kept.begin([3, 4])
    kept.begin([None, None])
    other.begin([8, 9])
    other.load_state_dict(kept.state_dict())
    assert other.seeds == kept.seeds
    assert other.begin([None, None]) == kept.begin([None, None])


def test_a_state_of_envs_that_were_built_otherwise_is_refused() -> None:
    with pytest.raises(UsageError, match=r"has reset_every=3, and this one has 4: build it as in the first run"):
        log(reset_every=4).load_state_dict(log(reset_every=3).state_dict())
