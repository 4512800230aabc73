"""What an env gives under the guards: sensors and rewards that fail, and the wrappers around it."""

import csv
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper, VecFrameStack, VecNormalize

from helpers.envs import make_cartpole
from helpers.guard_callback import When
from sb3_stable_ppo import CollapseError, StablePPO
from sb3_stable_ppo.guards.checked_env import CheckedVecEnv

SMALL: dict[str, Any] = {"n_steps": 32, "batch_size": 16, "n_epochs": 2, "seed": 0}


class Broken(gym.Env[np.ndarray, int]):
    """From its fifth step on, the sensor or the reward is not a number."""

    observation_space, action_space = spaces.Box(-1, 1, (3,), np.float32), spaces.Discrete(2)

    def __init__(self, sensor: float = 0.0, reward: float = 0.0) -> None:
        self.sensor, self.reward, self.t = sensor, reward, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self._observe(), {}

    def step(self, action: int) -> Any:
        self.t += 1
        reward = float(action) + (self.reward if self.t >= 5 else 0.0)
        return self._observe(), reward, self.t % 10 == 0, False, {}

    def _observe(self) -> np.ndarray:
        observation = self.np_random.uniform(-1, 1, 3).astype(np.float32)
        observation[1] += self.sensor if self.t >= 5 else 0.0
        return observation


@pytest.mark.parametrize(
    ("what", "normalise", "complaint"),
    [
        ({"sensor": np.nan}, False, "Not one observation of env 0 was finite in a whole rollout of 32 steps. Mend"),
        ({"reward": np.nan}, False, "Not one reward of env 0 was finite in a whole rollout of 32 steps. Mend"),
        ({"sensor": np.nan}, True, "Not one observation of env 0 was finite in a whole rollout of 32 steps. Mend"),
        ({"reward": np.nan}, True, "Not one reward of env 0 was finite in a whole rollout of 32 steps. Mend"),
    ],
)
def test_an_env_that_gives_nothing_finite_any_more_is_said_to_be_broken(
    what: Any, normalise: bool, complaint: str
) -> None:
    env: Any = DummyVecEnv([lambda: Broken(**what)])
    env = VecNormalize(env) if normalise else env
    model = StablePPO("MlpPolicy", env, guards={"on_nonfinite_obs": "repeat_last"}, **SMALL)
    with (
        pytest.warns(UserWarning, match="rewards at step|observation of env 0 at step"),
        pytest.raises(CollapseError, match=complaint),
    ):
        model.learn(320)
    if normalise:
        assert np.isfinite(env.obs_rms.mean).all()
        assert np.isfinite(env.ret_rms.var)


def test_statistics_of_a_normaliser_that_are_broken_already_are_said_to_be_so() -> None:
    env = VecNormalize(DummyVecEnv([Broken]))
    env.obs_rms.mean[1] = np.nan  # type: ignore[union-attr]
    model = StablePPO("MlpPolicy", env, guards={"on_nonfinite_obs": "repeat_last"}, **SMALL)
    complaint = "obs_rms of VecNormalize is not finite.* Mend the env: .* Then load statistics from before"
    with pytest.warns(UserWarning, match="observation of env 0"), pytest.raises(CollapseError, match=complaint):
        model.learn(64)


@pytest.mark.parametrize("name", [None, "left"])
def test_the_arrays_of_an_env_are_not_written_to(name: str | None) -> None:
    space = spaces.Box(-1, 1, (2,), np.float32)
    venv: Any = DummyVecEnv([Broken])
    venv.observation_space = space if name is None else spaces.Dict({name: space})
    checked = CheckedVecEnv(venv, lambda *_: None)
    good, bad = np.zeros((1, 2), np.float32), np.array([[np.nan, 1]], np.float32)
    bad.flags.writeable = False

    def given(array: np.ndarray) -> Any:
        return array if name is None else {name: array}

    checked.begin("repeat_last", 0, given(good))
    observation, *_ = checked.check(given(bad), np.zeros(1), np.zeros(1, bool), [{}])
    assert np.array_equal(observation if name is None else observation[name], good)
    assert np.isnan(bad[0, 0])


def test_a_frame_stack_does_not_carry_a_bad_frame_along() -> None:
    class Once(Broken):
        def _observe(self) -> np.ndarray:
            return np.full(3, np.nan if self.t == 5 else self.t, np.float32)

    env = VecFrameStack(DummyVecEnv([Once]), 4)
    seen: list[Any] = []
    model = StablePPO("MlpPolicy", env, guards={"on_nonfinite_obs": "repeat_last"}, **SMALL)
    with pytest.warns(UserWarning, match="The one before is repeated"):
        model.learn(32, callback=When(9, lambda model: seen.append(model._last_obs)))
    assert model.logger.name_to_value["guards/nonfinite_observations"] == 1
    assert seen[0].reshape(4, 3)[:, 0].tolist() == [4.0, 6.0, 7.0, 8.0]


@pytest.mark.parametrize("normalise", [False, True])
def test_below_a_frame_stack_the_first_step_of_a_rollout_repeats_the_last_of_the_one_before(normalise: bool) -> None:
    class Once(Broken):
        def _observe(self) -> np.ndarray:
            return np.full(3, np.nan if self.t == 9 else self.t, np.float32)

    inner: Any = DummyVecEnv([Once])
    env = VecFrameStack(VecNormalize(inner, norm_obs=False) if normalise else inner, 4)
    seen: list[Any] = []
    options = {**SMALL, "n_steps": 8, "batch_size": 8}
    model = StablePPO("MlpPolicy", env, guards={"on_nonfinite_obs": "repeat_last"}, **options)
    with pytest.warns(UserWarning, match="The one before is repeated"):
        model.learn(16, callback=When(10, lambda model: seen.append(model._last_obs)))
    assert seen[0].reshape(4, 3)[:, 0].tolist() == [6.0, 7.0, 8.0, 8.0]


def test_events_of_all_updates_since_the_last_line_of_the_log_are_in_it(tmp_path: Path) -> None:
    class Sometimes(Broken):
        def step(self, action: int) -> Any:
            observation, reward, *rest = super().step(action)
            return observation, np.nan if self.t in (5, 40, 41, 100) else reward, *rest

    counts = {}
    for interval in (1, 3):
        model = StablePPO("MlpPolicy", DummyVecEnv([Sometimes]), **SMALL)
        model.set_logger(configure(str(tmp_path / str(interval)), ["csv"]))
        with pytest.warns(UserWarning, match="rewards at step"):
            model.learn(6 * 32, log_interval=interval)
        rows = list(csv.DictReader((tmp_path / str(interval) / "progress.csv").open()))
        counts[interval] = [row["guards/nonfinite_rewards"] for row in rows]
    assert counts == {1: ["", "1", "2", "0", "1", "0"], 3: ["3", "1"]}


class CountsSteps(VecEnvWrapper):
    """Does its work in ``step``, which SB3's algorithms call."""

    calls = 0

    def reset(self) -> Any:
        return self.venv.reset()

    def step(self, actions: np.ndarray) -> Any:
        self.calls += 1
        return super().step(actions)

    def step_wait(self) -> Any:
        return self.venv.step_wait()


def test_a_wrapper_that_works_in_step_works_under_the_guards_too() -> None:
    env = CountsSteps(make_cartpole())
    StablePPO("MlpPolicy", env, **SMALL).learn(64)
    assert env.calls == 64 // env.num_envs


class TwoSensors(gym.Env[dict[str, np.ndarray], int]):
    """Both sensors fail at every other step."""

    observation_space = spaces.Dict({name: spaces.Box(-1, 1, (2,), np.float32) for name in ("left", "right")})
    action_space = spaces.Discrete(2)
    t = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return {name: np.zeros(2, np.float32) for name in ("left", "right")}, {}

    def step(self, action: int) -> Any:
        self.t += 1
        value = np.nan if self.t % 2 else 0.5
        return {name: np.full(2, value, np.float32) for name in ("left", "right")}, 1.0, False, False, {}


def test_two_sensors_that_fail_now_and_then_are_not_taken_for_a_dead_env() -> None:
    env = DummyVecEnv([TwoSensors])
    model = StablePPO("MultiInputPolicy", env, guards={"on_nonfinite_obs": "repeat_last"}, **SMALL)
    with pytest.warns(UserWarning, match="left of env 0|right of env 0"):
        model.learn(64)
    assert model.logger.name_to_value["guards/nonfinite_observations"] == 32  # 16 steps of two fields
