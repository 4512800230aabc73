"""
Vec envs in C++, ALE's and EnvPool's, and one whose workers may die: what SB3 expects of any VecEnv, and what its
DummyVecEnv and Monitor do.
"""

import copy
import pickle
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor, load_results
from stable_baselines3.common.vec_env import VecEnv, VecTransposeImage

from helpers.envs import actions_of, play
from sb3_stable_ppo.envs.atari_vec_env import AtariVecEnv
from sb3_stable_ppo.envs.envpool_vec_env import EnvPoolVecEnv
from sb3_stable_ppo.envs.restarting_vec_env import RestartingVecEnv

pytestmark = pytest.mark.slow(seconds=1)


def in_processes(env_id: str, n_envs: int = 1, seed: int | None = None, monitor_dir: Any = None) -> VecEnv:
    """SB3's envs in workers that are started anew when they die; here none does."""
    return make_vec_env(
        env_id,
        n_envs,
        seed,
        monitor_dir=monitor_dir,
        vec_env_cls=RestartingVecEnv,
        vec_env_kwargs={"start_method": "fork"},
    )


IDS: dict[str, tuple[Callable[..., Any], str]] = {
    "ALE Pong": (AtariVecEnv, "PongNoFrameskip-v4"),
    "ALE Pong, resumable": (partial(AtariVecEnv, resumable=True), "PongNoFrameskip-v4"),
    "EnvPool CartPole": (EnvPoolVecEnv, "CartPole-v1"),
    "EnvPool Pendulum": (EnvPoolVecEnv, "Pendulum-v1"),
    "EnvPool Hopper": (EnvPoolVecEnv, "Hopper-v5"),
    "Restarting CartPole": (in_processes, "CartPole-v1"),
}
EPISODE_ENDS = {
    "ALE Pong": 1200,
    "ALE Pong, resumable": 1200,
    "EnvPool CartPole": 100,
    "EnvPool Pendulum": 250,
    "EnvPool Hopper": 100,
    "Restarting CartPole": 100,
}
"""Within so many steps of random actions an episode ends."""
with_each = pytest.mark.parametrize("name", IDS)


def make(name: str, n_envs: int = 2, seed: int | None = None, **options: Any) -> VecEnv:
    cls, env_id = IDS[name]
    env: VecEnv = cls(env_id, n_envs, seed, **options)
    return env


@with_each
def test_the_same_seed_plays_the_same_episodes_and_another_seed_others(name: str) -> None:
    played = []
    for seed in (3, 3, 4):
        env = make(name, seed=seed)
        steps = play(env, 60)
        played.append((np.stack([step[0] for step in steps]), np.stack([step[1] for step in steps])))
        env.close()
    assert all(np.array_equal(first, again) for first, again in zip(*played[:2], strict=True))
    assert not np.array_equal(played[0][0], played[2][0])


@with_each
@pytest.mark.parametrize("seed", [0, 2**31 - 1, 2**31, 2**32 - 1])
def test_any_seed_that_sb3_may_draw_will_do(name: str, seed: int) -> None:
    env = make(name, 3)
    env.seed(seed)
    first = env.reset()
    env.seed(seed)
    assert np.array_equal(env.reset(), first)  # type: ignore[arg-type]
    env.close()


@pytest.mark.parametrize("name", [name for name in IDS if not name.startswith("ALE")])
def test_a_seed_holds_for_one_reset_and_each_env_has_its_own(name: str) -> None:
    """ALE's first frames all look alike."""
    env = make(name, 4, seed=1)
    first, second = env.reset(), env.reset()
    assert not np.array_equal(first, second)  # type: ignore[arg-type]
    assert len(np.unique(np.asarray(first), axis=0)) == 4
    env.close()


@with_each
def test_observations_of_one_step_are_not_written_over_by_the_next(name: str) -> None:
    env = make(name, seed=0)
    before: Any = env.reset()
    copy = before.copy()
    kept = [(found, found.copy()) for found, *_ in (env.step(actions) for actions in actions_of(env, 60))]  # type: ignore[union-attr]
    assert np.array_equal(before, copy)
    assert all(np.array_equal(found, as_it_was) for found, as_it_was in kept)
    env.close()


@with_each
def test_what_a_step_returns_has_the_shapes_and_types_of_sb3s(name: str) -> None:
    env = make(name, 3, seed=0)
    observations, rewards, dones, infos = play(env, 1)[0]
    assert observations.shape == (3, *(env.observation_space.shape or ()))
    assert observations.dtype == env.observation_space.dtype
    assert rewards.shape == dones.shape == (3,)
    stacked = np.float64 if name == "Restarting CartPole" else np.float32  # SubprocVecEnv stacks what Gymnasium gives
    assert (rewards.dtype, dones.dtype) == (stacked, np.bool_)
    assert [type(info) for info in infos] == [dict] * 3
    assert [type(info) for info in env.reset_infos] == [dict] * 3
    env.close()


@with_each
def test_an_episode_that_is_over_begins_anew_and_its_end_is_told_as_sb3_tells_it(name: str) -> None:
    env = make(name, seed=0)
    returns, lengths, ended = np.zeros(2), np.zeros(2, dtype=int), 0
    for observations, rewards, dones, infos in play(env, EPISODE_ENDS[name]):
        returns += rewards
        lengths += 1
        for index, (done, info) in enumerate(zip(dones, infos, strict=True)):
            assert ("terminal_observation" in info) == ("episode" in info) == bool(done)
            if not done:
                assert info["TimeLimit.truncated"] is False
                continue
            ended += 1
            assert env.observation_space.contains(info["terminal_observation"].astype(env.observation_space.dtype))
            assert not np.array_equal(info["terminal_observation"], observations[index])
            assert type(info["TimeLimit.truncated"]) is bool
            assert info["episode"]["r"] == pytest.approx(returns[index], abs=1e-5)
            frames = 4 if name.startswith("ALE") else 1
            assert abs(info["episode"]["l"] - frames * lengths[index]) <= 40 * (frames - 1)  # ALE counts the start
            assert list(info["episode"]) == ["r", "l", "t"]
            returns[index] = lengths[index] = 0
    assert ended > 0
    env.close()


def test_a_time_limit_is_a_truncation_and_a_fall_is_none() -> None:
    pendulum, cartpole = make("EnvPool Pendulum", seed=0), make("EnvPool CartPole", seed=0)
    for env, truncated in ((pendulum, True), (cartpole, False)):
        ends = [info for *_, infos in play(env, 250) for info in infos if "episode" in info]
        assert ends
        assert all(info["TimeLimit.truncated"] is truncated for info in ends)
        env.close()


@with_each
def test_attributes_are_reached_as_in_sb3s_own_envs(name: str) -> None:
    env = make(name, 3)
    assert env.get_attr("spec", indices=[1])[0].id == IDS[name][1]
    env.set_attr("mine", 7, indices=[0, 2])
    assert env.get_attr("mine", indices=[0, 2]) == [7, 7]
    with pytest.raises(AttributeError, match="mine"):
        env.get_attr("mine", indices=1)
    assert env.get_attr("unwrapped", 0)[0].action_space == env.action_space
    assert env.env_is_wrapped(Monitor) == [True, True, True]
    assert env.env_is_wrapped(VecTransposeImage) == [False] * 3  # type: ignore[arg-type]
    env.close()
    env.close()


@with_each
def test_a_step_that_was_interrupted_is_over_with_the_next_reset(name: str) -> None:
    env, unbroken = make(name, seed=0), make(name, seed=0)
    actions = actions_of(env, 6)
    for each in (env, unbroken):
        each.reset()
        each.step(actions[0])
    env.step_async(actions[1])
    with pytest.raises(RuntimeError, match=r"nothing has waited for: call step_wait\(\) first, or reset\(\)"):
        env.step_async(actions[2])
    unbroken.step(actions[1])
    for each in (env, unbroken):
        each.seed(3)
    assert np.array_equal(env.reset(), unbroken.reset())  # type: ignore[arg-type]
    for each in actions[3:]:
        assert np.array_equal(env.step(each)[0], unbroken.step(each)[0])  # type: ignore[arg-type]
    env.close()
    unbroken.close()


@with_each
@pytest.mark.parametrize("copied", [pickle.dumps, copy.deepcopy])
def test_a_copy_is_one_clear_error(name: str, copied: Callable[[Any], Any]) -> None:
    env = make(name)
    with pytest.raises(TypeError, match=r"lives in .* and can be neither pickled nor copied. Save its model"):
        copied(env)
    env.close()


@with_each
def test_monitor_files_are_sb3s(name: str, tmp_path: Path) -> None:
    env = make(name, seed=0, monitor_dir=tmp_path)
    played = play(env, EPISODE_ENDS[name])
    returns = [info["episode"]["r"] for step in played for info in step[3] if "episode" in info]
    env.close()
    assert sorted(load_results(str(tmp_path))["r"]) == sorted(returns)  # of envs in processes, in any order


@with_each
def test_waiting_for_no_step_and_stepping_a_closed_env_are_errors(name: str) -> None:
    env = make(name, 1, seed=0)
    actions = actions_of(env, 1)[0]
    env.reset()
    with pytest.raises(RuntimeError, match="there is none"):
        env.step_wait()
    env.close()
    for call in (env.reset, lambda: env.step(actions)):
        with pytest.raises(RuntimeError, match="was closed: make another one"):
            call()


@pytest.mark.parametrize("name", [name for name in IDS if not name.startswith("ALE")])
def test_ppo_trains_and_is_evaluated_without_a_warning(name: str) -> None:
    env = make(name, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = PPO("MlpPolicy", env, n_steps=16, batch_size=16, n_epochs=1, seed=2**31 + 5).learn(64)
        returns, _ = evaluate_policy(model, env, 3, return_episode_rewards=True)
    assert len(returns) == 3  # type: ignore[arg-type]
    env.close()
