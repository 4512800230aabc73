"""What of an env goes on, and what is said of the rest."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.wrappers import FrameStackObservation, RecordEpisodeStatistics, StickyAction
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_atari_env, make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecEnv,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
)

from helpers.envs import SceneEnv
from helpers.masked_env import StrictEnv
from sb3_stable_ppo.algorithms import StablePPO
from sb3_stable_ppo.checkpoints.env_state import env_state, set_env_state
from sb3_stable_ppo.common.errors import UsageError


def play(env: VecEnv, steps: int, seed: int = 0) -> list[Any]:
    """Everything that an env gives, for actions that differ from step to step."""
    actions = np.random.default_rng(seed)
    space, found = env.action_space, []
    for _ in range(steps):
        if isinstance(space, gym.spaces.Discrete):
            step = env.step(actions.integers(space.n, size=env.num_envs))
        else:
            step = env.step(actions.uniform(space.low, space.high, (env.num_envs, *space.shape)).astype(np.float32))
        for info in step[3]:
            info.get("episode", {}).pop("t", None)
        found.append(step)
    return found


def assert_goes_on(make: Any, steps: int = 30) -> None:
    first, second = make(0), make(1)
    first.reset(), second.reset()
    play(first, steps), play(second, steps + 3)
    state = env_state(first)
    assert state.problems == []
    set_env_state(second, state.content)
    assert_same_steps(play(first, 60, seed=1), play(second, 60, seed=1))


def assert_same_steps(first: list[Any], second: list[Any]) -> None:
    np.testing.assert_equal(second, first)


def wrapped(env_id: str, **options: Any) -> Any:
    return lambda seed: make_vec_env(env_id, n_envs=2, seed=seed, **options)


def test_the_check_that_the_guards_put_into_an_env_for_a_rollout_is_no_part_of_it() -> None:
    env, states = VecNormalize(wrapped("CartPole-v1")(0)), []

    class Save(BaseCallback):
        def _on_step(self) -> bool:
            states.append(("step_wait" in vars(env.venv), env_state(env)))
            return True

    StablePPO("MlpPolicy", env, n_steps=4, batch_size=4, n_epochs=1).learn(8, callback=Save())
    is_checked, state = states[0]
    fresh = VecNormalize(wrapped("CartPole-v1")(1))
    set_env_state(fresh, state.content)
    assert is_checked
    assert state.problems == []
    assert "step_wait" not in vars(fresh.venv)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Acrobot-v1", "MountainCar-v0", "Pendulum-v1"])
def test_classic_control_goes_on(env_id: str) -> None:
    assert_goes_on(wrapped(env_id, env_kwargs={"max_episode_steps": 17}))


@pytest.mark.parametrize("env_id", ["Hopper-v5", "Ant-v5", "Humanoid-v5", "Swimmer-v5"])
def test_mujoco_goes_on_with_all_that_it_has_derived(env_id: str) -> None:
    pytest.importorskip("mujoco")
    assert_goes_on(lambda seed: make_vec_env(env_id, n_envs=1, seed=seed), steps=8)


def test_ale_goes_on_with_its_lives_frames_and_random_numbers() -> None:
    def make(seed: int) -> VecEnv:
        return VecFrameStack(make_atari_env("BreakoutNoFrameskip-v4", 1, seed=seed), 2)

    assert_goes_on(make, steps=60)


def test_games_that_ale_restores_inexactly_are_told() -> None:
    env = make_atari_env("QbertNoFrameskip-v4", 1)
    assert "a state of qbert that ALE restores may differ" in env_state(env).problems[0]


def test_sticky_actions_of_ale_are_told() -> None:
    assert not env_state(make_atari_env("PongNoFrameskip-v4", 1)).problems
    env = make_atari_env("PongNoFrameskip-v4", 1, env_kwargs={"repeat_action_probability": 0.25})
    assert env_state(env).problems == ["pong has sticky actions, and ALE does not save the action that they repeat"]


def test_wrappers_around_all_envs_go_on() -> None:
    def make(seed: int) -> VecEnv:
        inner = make_vec_env("CartPole-v1", n_envs=2, seed=seed)
        return VecFrameStack(VecNormalize(inner, gamma=0.9), 3)

    assert_goes_on(make)


def test_wrappers_of_gymnasium_go_on_and_so_do_dict_observations() -> None:
    def pendulum() -> gym.Env[Any, Any]:
        env = StickyAction(RecordEpisodeStatistics(gym.make("Pendulum-v1", max_episode_steps=11)), 0.5)
        return FrameStackObservation(env, 2)

    def make(seed: int) -> VecEnv:
        env = DummyVecEnv([pendulum, pendulum])
        env.seed(seed)
        return VecMonitor(env)

    def scene(seed: int) -> VecEnv:
        env = DummyVecEnv([SceneEnv])
        env.seed(seed)
        return VecFrameStack(env, 2)

    assert_goes_on(scene)
    first, second = make(0), make(1)
    first.reset(), second.reset()
    play(first, 15)
    set_env_state(second, env_state(first).content)
    mine, other = (np.array([step[0] for step in play(env, 30, seed=1)]) for env in (first, second))
    assert np.array_equal(mine, other)


def test_a_generator_that_layers_share_stays_shared() -> None:
    class Shaken(gym.Wrapper[Any, Any, Any, Any]):
        def __init__(self, env: gym.Env[Any, Any]) -> None:
            super().__init__(env)
            self.generator = np.random.default_rng(0)
            env.unwrapped.generator = self.generator  # type: ignore[attr-defined]

    env = DummyVecEnv([lambda: Shaken(gym.make("CartPole-v1"))])
    env.reset()
    other = DummyVecEnv([lambda: Shaken(gym.make("CartPole-v1"))])
    space = set_env_state(other, env_state(env, env.action_space).content)
    assert other.envs[0].generator is other.envs[0].unwrapped.generator  # type: ignore[attr-defined]
    assert space is other.envs[0].unwrapped.action_space


def test_an_env_may_save_itself() -> None:
    class Outside(StrictEnv):
        """Its state is in a lock, as good as an emulator's."""

        def __init__(self) -> None:
            super().__init__()
            self.emulator, self.position = threading.Lock(), 0

        def state_dict(self) -> dict[str, Any]:
            return {"position": self.position}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.position = state["position"] * 10

    first, second = DummyVecEnv([Outside]), DummyVecEnv([Outside])
    first.envs[0].position = 7  # type: ignore[attr-defined]
    state = env_state(first)
    assert state.problems == []
    set_env_state(second, state.content)
    assert second.envs[0].position == 70  # type: ignore[attr-defined]


def test_what_cannot_be_saved_is_named() -> None:
    class Locked(StrictEnv):
        def __init__(self) -> None:
            super().__init__()
            self.emulator, self.show, self.inner = threading.Lock(), lambda: None, [gym.make("Hopper-v5")]

    emulator, inner = env_state(DummyVecEnv([Locked])).problems
    assert emulator.startswith("emulator of Locked cannot be saved (TypeError")
    assert "HopperEnv is an EzPickle, which pickles its arguments alone" in inner


def test_lunar_lander_is_told_apart_from_envs_that_can_be_saved() -> None:
    pytest.importorskip("Box2D")
    env = make_vec_env("LunarLander-v3")
    env.reset()
    assert any(problem.startswith("world of LunarLander cannot be saved") for problem in env_state(env).problems)


def test_the_lines_of_a_monitor_go_on(tmp_path: Path) -> None:
    def make(seed: int) -> VecEnv:
        return DummyVecEnv([lambda: Monitor(gym.make("CartPole-v1"), str(tmp_path / str(seed)))])

    def lines(seed: int) -> list[str]:
        """Without the time of each."""
        return [
            line.rsplit(",", 1)[0]
            for line in (tmp_path / f"{seed}.monitor.csv").read_text().splitlines()
            if "#" not in line
        ]

    first = make(0)
    first.seed(0)
    first.reset()
    play(first, 100)
    state = env_state(first)
    set_env_state(second := make(1), state.content)
    assert lines(1) == lines(0)
    play(first, 50), play(second, 50)
    assert lines(1) == lines(0)
    assert len(lines(0)) > 4


class Adapter(gym.Env[Any, Any]):
    """No ``gym.Wrapper``, but it holds an env as one does, and several more."""

    def __init__(self) -> None:
        self.env = gym.make("Pendulum-v1")
        self.envs = [gym.make("Pendulum-v1") for _ in range(2)]
        self.observation_space, self.action_space = self.env.observation_space, self.env.action_space
        self.turn = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        for env in self.envs:
            env.reset(seed=seed)
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        self.turn += 1
        own, other = self.env.step(action), self.envs[self.turn % 2].step(action)
        return own[0], float(own[1]) + float(other[1]), self.turn % 50 == 0, False, {}


def test_an_env_that_holds_others_goes_on_with_them() -> None:
    assert_goes_on(lambda seed: make_vec_env(Adapter, n_envs=2, seed=seed))


class Raises(Adapter):
    def state_dict(self) -> Any:
        raise ValueError("the simulator is busy")

    def load_state_dict(self, state: Any) -> None:
        pass


def test_a_state_dict_that_cannot_be_had_is_told() -> None:
    state = env_state(DummyVecEnv([Raises]))
    assert state.problems == ["the state_dict() of Raises cannot be saved (ValueError: the simulator is busy)"]


def test_another_number_of_envs_in_processes_is_told() -> None:
    few, more = (VecNormalize(SubprocVecEnv([CartPoleEnv] * n, start_method="fork")) for n in (1, 2))
    try:
        content = env_state(few).content
        with pytest.raises(UsageError, match="The env of the checkpoint has 1 envs, and this one has 2"):
            set_env_state(more, content)
    finally:
        few.close()
        more.close()
