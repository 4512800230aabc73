"""RestartingVecEnv: when it gives up, and what it says."""

import warnings
from typing import Any

import numpy as np
import pytest

from helpers.dying_env import EXIT, GO_ON, RAISE, DyingEnv, ends_at_once, never_begins, never_made
from sb3_stable_ppo.envs import restart_limit
from sb3_stable_ppo.envs.restart_limit import WARN_EVERY_S, Death, RestartLimit
from sb3_stable_ppo.envs.restarting_vec_env import RestartingVecEnv

pytestmark = pytest.mark.filterwarnings("ignore:The worker of env:RuntimeWarning")


class Clock:
    """Stands in for ``time``."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(restart_limit, "time", found)
    return found


def test_one_death_more_than_allowed_ends_the_run_in_a_sentence_with_the_workers_traceback() -> None:
    env = RestartingVecEnv([DyingEnv] * 2, start_method="fork", max_restarts=2)
    env.reset()
    env.step(np.array([GO_ON, EXIT]))
    env.step(np.array([EXIT, GO_ON]))
    with pytest.raises(RuntimeError) as found:
        env.step(np.array([GO_ON, RAISE]))
    first, *rest = str(found.value).splitlines()
    assert first == (
        "Env 1 cannot go on: workers have died 3 times within 10 minutes, and max_restarts=2 allows no more; mend the "
        "env, or raise max_restarts. The last one died of KeyError: 'lost the ball'. Its own traceback:"
    )
    assert rest[0] == "Traceback (most recent call last):"
    assert "in die" in rest[-3]
    assert rest[-1] == "KeyError: 'lost the ball'"
    assert env.n_restarts == 2
    processes = env.processes
    env.close()
    assert not any(process.is_alive() for process in processes)


def test_an_env_that_dies_in_every_reset_ends_the_run() -> None:
    env = RestartingVecEnv([DyingEnv], start_method="fork", max_restarts=3)
    env.reset()
    env.set_attr("death_at_reset", RAISE)  # which each new worker is given
    with pytest.raises(RuntimeError, match="workers have died 4 times"):
        env.reset()
    env.close()


@pytest.mark.parametrize(
    ("env_fn", "told"),
    [
        (never_made, "Env 1 has never begun: its worker died of AttributeError: no such map. Its own traceback:"),
        (ends_at_once, "Env 1 has never begun: its worker died of exit status 5."),
    ],
)
def test_an_env_that_cannot_be_made_is_an_error_at_once_and_leaves_no_process(
    env_fn: Any, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes: list[Any] = []
    close = RestartingVecEnv.close
    monkeypatch.setattr(RestartingVecEnv, "close", lambda self: (processes.extend(self.processes), close(self)))
    with pytest.raises(RuntimeError) as found:
        RestartingVecEnv([DyingEnv, env_fn], start_method="fork")
    assert str(found.value).splitlines()[0] == told
    assert [process.is_alive() for process in processes] == [False, False]


def test_an_env_whose_first_reset_fails_is_an_error_at_once() -> None:
    env = RestartingVecEnv([never_begins], start_method="fork")
    with pytest.raises(RuntimeError, match="Env 0 has never begun: its worker died of KeyError: 'lost the ball'"):
        env.reset()
    assert env.n_restarts == 0
    env.close()


def test_deaths_count_for_so_many_minutes(clock: Clock) -> None:
    limit = RestartLimit(max_restarts=2, window_minutes=10)
    for seconds in (0, 599, 2, 599, 2):
        clock.now += seconds
        limit.count(0, Death("age"))
    clock.now += 597
    with pytest.raises(RuntimeError, match=r"died 3 times within 10 minutes.*The last one died of age\.$"):
        limit.count(0, Death("age"))


def test_no_restarts_at_all_means_that_the_first_death_ends_the_run() -> None:
    with pytest.raises(RuntimeError, match="max_restarts=0 allows no more"):
        RestartLimit(0, 10).count(3, Death("age"))


def test_a_warning_a_minute_counts_those_that_were_left_out(clock: Clock) -> None:
    limit, told = RestartLimit(9, 10), []
    for seconds in (0, 1, WARN_EVERY_S - 2, 1):
        clock.now += seconds
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            limit.warn(4, Death("age"), 1)
        told.append([str(each.message) for each in caught])
    assert [len(each) for each in told] == [1, 0, 0, 1]
    assert told[0][0] == (
        "The worker of env 4 has died of age: its episode ends as truncated, and a new worker has taken its place "
        "(restart 1 of this env)."
    )
    assert told[3][0].endswith("(restart 1 of this env) (2 more restarts since the last warning).")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"timeout": 0}, "timeout must be a number of at least 0.001, not 0"),
        ({"max_restarts": -1}, "max_restarts must be a whole number of at least 0, not -1"),
        ({"window_minutes": "long"}, "window_minutes must be a number of at least 0, or inf, not 'long'"),
        ({"start_method": "frok"}, "Unknown start_method 'frok': choose one of"),
    ],
)
def test_a_mistake_is_one_clear_error(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        RestartingVecEnv([DyingEnv], **options)
