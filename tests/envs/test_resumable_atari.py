"""AtariVecEnv(resumable=True): games that are cut at fixed steps, and states that are reached by playing again."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecNormalize

from sb3_stable_ppo.checkpoints.env_state import env_state, set_env_state
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.envs.atari import make_atari_vec_env
from sb3_stable_ppo.envs.atari_vec_env import AtariVecEnv

pytestmark = pytest.mark.slow(seconds=1)

PONG, BREAKOUT = "PongNoFrameskip-v4", "BreakoutNoFrameskip-v4"


def make(n_envs: int = 2, seed: int = 0, env_id: str = PONG, **options: Any) -> AtariVecEnv:
    return AtariVecEnv(env_id, n_envs, seed, **{"resumable": True, **options})


def play(env: VecEnv, steps: int, seed: int = 0, first: int = 0) -> list[Any]:
    """Random actions, from the ``first`` of a seed on; no reset."""
    n_actions = env.action_space.n  # type: ignore[attr-defined]
    actions = np.random.default_rng(seed).integers(0, n_actions, (first + steps, env.num_envs))[first:]
    found = []
    for each in actions:
        step = env.step(each)
        for info in step[3]:
            info.get("episode", {}).pop("t", None)
        found.append(step)
    return found


# -- the fixed resets --------------------------------------------------------------------------------------------------


def test_until_the_first_reset_it_is_the_env_that_is_not_resumable() -> None:
    plain, cut = make(resumable=False), make(reset_every=40)
    np.testing.assert_equal(plain.reset(), cut.reset())
    np.testing.assert_equal(play(plain, 39), play(cut, 39))
    observations, rewards, _, _ = play(plain, 1, first=39)[0]
    _, cut_rewards, dones, infos = play(cut, 1, first=39)[0]
    assert np.array_equal(rewards, cut_rewards)
    assert dones.tolist() == [True, True]
    for index, info in enumerate(infos):
        assert np.array_equal(info["terminal_observation"], observations[index])


def test_all_games_end_as_truncated_at_multiples_of_reset_every_and_at_no_other_step() -> None:
    env = make(reset_every=20)
    env.reset()
    steps = play(env, 60)
    assert [bool(step[2].any()) for step in steps] == [step % 20 == 19 for step in range(60)]
    for at in (19, 39, 59):
        for index, info in enumerate(steps[at][3]):
            assert info["TimeLimit.truncated"] is True
            assert "episode" not in info  # the score of a part of a game would be none
            assert info["frame_number"] == info["episode_frame_number"] < 40  # a new game
            assert not np.array_equal(steps[at][0][index], info["terminal_observation"])
    assert env.reset_infos == [{key: info[key] for key in env.reset_infos[0]} for info in steps[59][3]]
    starts = [[info["frame_number"] for info in steps[at][3]] for at in (19, 39, 59)]
    assert len({tuple(each) for each in starts}) == 3  # other seeds each time


def test_a_life_that_is_lost_at_the_very_step_is_a_termination() -> None:
    plain = make(1, env_id=BREAKOUT, resumable=False)
    plain.reset()
    steps = play(plain, 300)
    at = next(step for step, (_, _, dones, _) in enumerate(steps) if dones[0])
    env = make(1, env_id=BREAKOUT, reset_every=at + 1)
    env.reset()
    observations, _, dones, infos = play(env, at + 1)[at]
    assert dones.tolist() == [True]
    assert infos[0]["TimeLimit.truncated"] is False
    assert np.array_equal(infos[0]["terminal_observation"], steps[at][3][0]["terminal_observation"])
    assert infos[0]["lives"] == 5
    assert not np.array_equal(observations[0], infos[0]["terminal_observation"])


def test_a_game_that_ends_at_the_very_step_has_its_score(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gym.spec(PONG).kwargs, "max_num_frames_per_episode", 200)
    env = make(1, reset_every=50)
    env.reset()
    steps = play(env, 100)
    assert [step for step, (_, _, dones, _) in enumerate(steps) if dones[0]] == [49, 99]
    for at in (49, 99):
        info = steps[at][3][0]
        assert info["TimeLimit.truncated"] is True
        assert info["episode"]["r"] <= 0
        assert 200 <= info["episode"]["l"] < 240


def test_a_game_after_a_cut_is_scored_from_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gym.spec(PONG).kwargs, "max_num_frames_per_episode", 240)
    env = make(1, reset_every=100)
    env.reset()
    ends = [step[3][0]["episode"] for step in play(env, 200) if "episode" in step[3][0]]
    assert len(ends) == 2  # after 60 steps and after 160; what begins at 60 is cut at 100
    assert all(240 <= end["l"] < 280 for end in ends)


def test_threads_change_nothing() -> None:
    found = []
    for threads in (1, 2, 4):
        env = make(4, env_id=BREAKOUT, reset_every=60, num_threads=threads, action_repeat_probability=0.25)
        env.reset()
        found.append(play(env, 150))
    np.testing.assert_equal(found[1], found[0])
    np.testing.assert_equal(found[2], found[0])


def test_ppo_bootstraps_from_the_last_observation_of_a_game_that_was_cut() -> None:
    class Look(BaseCallback):
        last: Any = None

        def _on_step(self) -> bool:
            if self.locals["dones"].any():
                self.last = self.locals["infos"]
            return True

        def _on_rollout_end(self) -> None:
            last = th.as_tensor(np.stack([info["terminal_observation"] for info in self.last]))
            with th.no_grad():
                values = self.model.policy.predict_values(last).numpy().ravel()  # type: ignore[operator]
            assert np.abs(values).min() > 0
            rewards = self.model.rollout_buffer.rewards  # type: ignore[attr-defined]
            np.testing.assert_allclose(rewards[4], self.model.gamma * values, rtol=1e-5)  # type: ignore[attr-defined]
            assert not np.delete(rewards, 4, axis=0).any()  # nobody scores within eight steps

    env = make(reset_every=5, screen_size=36)
    PPO("CnnPolicy", env, n_steps=8, batch_size=8, n_epochs=1, seed=1, device="cpu").learn(8, callback=Look())


# -- states ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [0, 37, 49, 50, 51, 120])
def test_a_state_leads_another_env_to_where_this_one_stands(steps: int) -> None:
    options: Any = {"env_id": BREAKOUT, "reset_every": 50, "action_repeat_probability": 0.25}
    env, other = make(2, 3, **options), make(2, 8, **options)
    env.reset(), other.reset()
    play(env, steps), play(other, 29, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other.load_state_dict(env.state_dict() or {})
    assert other.reset_infos == env.reset_infos
    np.testing.assert_equal(other.get_images(), env.get_images())
    np.testing.assert_equal(play(other, 110, seed=2), play(env, 110, seed=2))
    np.testing.assert_equal(other.reset(), env.reset())
    np.testing.assert_equal(play(other, 10), play(env, 10))


def test_a_state_before_the_first_reset_and_seeds_that_wait_for_one_come_back() -> None:
    env, other = make(), make(seed=5)
    other.load_state_dict(env.state_dict() or {})
    np.testing.assert_equal(other.reset(), env.reset())
    env.seed(77)
    other.load_state_dict(env.state_dict() or {})
    env.reset(), other.reset()
    assert other.reset_infos == env.reset_infos
    assert env.reset_infos != make(seed=0).reset_infos


def test_taking_a_state_changes_nothing() -> None:
    env, watched = make(reset_every=25), make(reset_every=25)
    env.reset(), watched.reset()
    for step in range(60):
        watched.state_dict()
        np.testing.assert_equal(play(watched, 1, first=step), play(env, 1, first=step))


def test_wrappers_go_on_with_it() -> None:
    def wrapped(seed: int) -> VecEnv:
        return VecNormalize(VecFrameStack(make(seed=seed, frame_stack=1, reset_every=30), 3), norm_obs=False)

    env, other = wrapped(0), wrapped(1)
    env.reset(), other.reset()
    play(env, 47), play(other, 5)
    state = env_state(env)
    assert state.problems == []
    set_env_state(other, state.content)
    np.testing.assert_equal(play(other, 40, seed=1), play(env, 40, seed=1))


def test_without_resumable_there_is_no_state_and_the_checkpoint_says_so() -> None:
    env = make(resumable=False)
    env.reset()
    assert env.state_dict() is None
    assert env_state(env).problems == ["the state of the envs in AtariVecEnv cannot be saved"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"n_envs": 3}, "has n_envs=2, and this one has 3"),
        ({"env_id": BREAKOUT}, "has env_id='PongNoFrameskip-v4', and this one has 'BreakoutNoFrameskip-v4'"),
        ({"reset_every": 9}, "has reset_every=27000, and this one has 9"),
        ({"action_repeat_probability": 0.25}, "has action_repeat_probability=0.0, and this one has 0.25"),
        ({"resumable": False}, "has resumable=True, and this one has not"),
    ],
)
def test_a_state_of_another_env_is_refused_and_changes_nothing(options: dict[str, Any], complaint: str) -> None:
    env, other, same = make(), make(**options), make(**options)
    env.reset(), other.reset(), same.reset()
    play(env, 5)
    with pytest.raises(UsageError, match=f"{complaint}: build it as in the first run"):
        set_env_state(other, env_state(env).content)
    np.testing.assert_equal(play(other, 12), play(same, 12))


def test_an_emulator_that_goes_another_way_is_told() -> None:
    env, other = make(), make()
    env.reset()
    play(env, 30)
    state = env.state_dict() or {}
    with pytest.warns(UserWarning, match=r"another way when the last 29 steps were played again.*not bit for bit"):
        other.load_state_dict({**state, "actions": state["actions"][1:]})


def test_within_a_step_there_is_no_state() -> None:
    env = make()
    env.reset()
    env.step_async(np.zeros(2, dtype=np.int64))
    with pytest.raises(RuntimeError, match="nothing has waited for"):
        env.state_dict()
    env.step_wait()


def test_the_monitor_file_goes_on_without_a_line_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gym.spec(PONG).kwargs, "max_num_frames_per_episode", 80)

    def lines(name: str) -> list[str]:
        """Without the time of each."""
        return [line.rsplit(",", 1)[0] for line in (tmp_path / name / "0.monitor.csv").read_text().splitlines()[2:]]

    env, other = (make(monitor_dir=tmp_path / name) for name in ("first", "second"))
    env.reset()
    play(env, 50)
    set_env_state(other, env_state(env).content)
    assert lines("second") == lines("first")
    play(env, 30, seed=1), play(other, 30, seed=1)
    assert lines("second") == lines("first")
    assert len(lines("first")) == 8


# -- mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"resumable": True, "reset_every": 0}, "reset_every must be a whole number of at least 1, not 0"),
        ({"resumable": True, "vec_env": "dummy"}, "resumable is an option of vec_env='ale', and vec_env is 'dummy'"),
    ],
)
def test_a_mistake_is_one_clear_error(options: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make_atari_vec_env(PONG, **options)


def test_make_atari_vec_env_hands_it_on() -> None:
    env = make_atari_vec_env(PONG, 2, seed=0, resumable=True, reset_every=7)
    env.reset()
    assert [bool(step[2].all()) for step in play(env, 8)] == [False] * 6 + [True, False]
