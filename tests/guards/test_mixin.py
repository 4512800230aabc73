"""The guards amid what users do: callbacks that save and copy, Ctrl-C, normalisers, dead sensors, bugs."""

import copy
import csv
import pickle
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import CheckpointCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper, VecFrameStack, VecNormalize
from torch.distributions import Bernoulli, Categorical

from helpers.envs import make_cartpole
from helpers.guard_callback import When
from helpers.weights import assert_same_weights
from sb3_stable_ppo import CollapseError, StablePPO, StableRecurrentPPO
from sb3_stable_ppo.guards.checked_env import CheckedVecEnv
from sb3_stable_ppo.metrics.kl import mean_kl

SMALL: dict[str, Any] = {"n_steps": 32, "batch_size": 16, "n_epochs": 2, "seed": 0}


def weights(model: Any) -> dict[str, th.Tensor]:
    """A copy."""
    return {name: value.clone() for name, value in model.policy.state_dict().items()}


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


def test_a_callback_may_save_the_normaliser_in_the_middle_of_a_rollout(tmp_path: Path) -> None:
    model = StablePPO("MlpPolicy", VecNormalize(make_cartpole()), **SMALL)
    model.learn(128, callback=CheckpointCallback(25, str(tmp_path), save_vecnormalize=True))
    loaded = VecNormalize.load(str(next(tmp_path.glob("*vecnormalize*.pkl"))), make_cartpole())
    assert loaded.obs_rms.count > 1  # type: ignore[union-attr]


def test_a_copy_made_in_the_middle_of_a_rollout_trains_on_its_own_data() -> None:
    copies: list[Any] = []
    StablePPO("MlpPolicy", make_cartpole(), **SMALL).learn(
        128, callback=When(90, lambda model: copies.append(copy.deepcopy(model)))
    )
    (twin,) = copies
    before = weights(twin)
    twin.learn(64)
    assert twin.rollout_buffer.advantages.std() > 0
    assert any(not th.equal(before[name], value) for name, value in twin.policy.state_dict().items())


def test_the_kl_of_confident_policies_is_finite_and_small() -> None:
    logits = th.full((1, 1), 16.0, dtype=th.float32)
    assert 0 <= mean_kl([Bernoulli(logits=logits)], [Bernoulli(logits=logits + 2)]) < 1e-6
    far = th.tensor([[0.0, -102.0]])
    assert mean_kl([Categorical(logits=far)], [Categorical(logits=far - th.tensor([[0.0, 3.0]]))]) < 1e-40
    masked = th.tensor([[0.0, 1.0, -1e8]])
    assert mean_kl([Categorical(logits=masked)], [Categorical(logits=masked)]) == 0.0
    p, q = Categorical(logits=th.tensor([[0.0, 1.0]])), Categorical(logits=th.tensor([[1.0, -1.0]]))
    assert mean_kl([p], [q]) == pytest.approx(float(th.distributions.kl_divergence(p, q)), rel=1e-5)


class WithMask(FlattenExtractor):
    """An attention mask: not finite, and meant to be so."""

    def __init__(self, observation_space: Any) -> None:
        super().__init__(observation_space)
        self.register_buffer("mask", th.full((4, 4), -th.inf).triu(1))


def test_a_buffer_that_is_meant_to_be_infinite_is_no_collapse() -> None:
    model = StablePPO(
        "MlpPolicy", make_cartpole(), policy_kwargs={"features_extractor_class": WithMask}, **SMALL
    ).learn(64)
    assert model._undone_updates == 0


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


def test_an_update_that_was_dropped_is_not_counted_as_one_in_the_log() -> None:
    model = StablePPO("MlpPolicy", make_cartpole(), guards={"max_kl": 1e-9, "max_retries": 0}, **SMALL)
    with pytest.warns(UserWarning, match="was undone"):
        model.learn(64)
    assert model.logger.name_to_value["train/n_updates"] == model._n_updates == 0


def test_a_new_run_of_a_model_that_came_to_nothing_has_all_its_tries_again() -> None:
    model = StablePPO("MlpPolicy", make_cartpole(), guards={"max_retries": 0, "max_consecutive_skips": 2}, **SMALL)
    handle = model.policy.value_net.weight.register_hook(lambda gradient: gradient * np.nan)
    with pytest.warns(UserWarning, match="gradient of"), pytest.raises(CollapseError, match="Lower the learning rate"):
        model.learn(640)
    handle.remove()
    once = model.policy.value_net.weight.register_hook(lambda gradient: gradient * np.nan)
    model.learn(192, callback=When(66, lambda _: once.remove()))
    assert model.num_timesteps == 192


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


def test_two_sensors_that_fail_now_and_then_are_not_taken_for_a_dead_env() -> None:
    env = DummyVecEnv([TwoSensors])
    model = StablePPO("MultiInputPolicy", env, guards={"on_nonfinite_obs": "repeat_last"}, **SMALL)
    with pytest.warns(UserWarning, match="left of env 0|right of env 0"):
        model.learn(64)
    assert model.logger.name_to_value["guards/nonfinite_observations"] == 32  # 16 steps of two fields


def test_without_guards_at_load_the_learning_rate_is_the_users(tmp_path: Path) -> None:
    model = StablePPO("MlpPolicy", make_cartpole(), guards={"max_kl": 1e-9, "max_retries": 1}, **SMALL)
    with pytest.warns(UserWarning, match="was undone"):
        model.learn(64)
    assert model._lr_scale < 1
    model.save(tmp_path / "model")
    for guards in (None, {"undo": False}):
        loaded = StablePPO.load(tmp_path / "model", env=make_cartpole(), guards=guards).learn(64)
        assert loaded.policy.optimizer.param_groups[0]["lr"] == 3e-4


def test_padding_of_a_recurrent_rollout_counts_for_nothing() -> None:
    """sb3-contrib pads sequences with zeros; their log-ratios are no one's."""
    model = StableRecurrentPPO("MlpLstmPolicy", make_cartpole(), **SMALL).learn(192)
    assert model.logger.name_to_value["norm/first_ratio_error"] < 1e-4


def test_a_bad_gradient_is_named_where_it_arose_not_where_clipping_spread_it() -> None:
    model = StablePPO("MlpPolicy", make_cartpole(), guards={"max_consecutive_skips": 1}, **SMALL)
    model.policy.value_net.weight.register_hook(lambda gradient: gradient * np.nan)
    with (
        pytest.warns(UserWarning, match="gradient of value_net.weight: 64 of 64"),
        pytest.raises(CollapseError, match=r"gradient of value_net\.weight"),
    ):
        model.learn(64)


@pytest.mark.parametrize("error", [ValueError("a bug of the user's"), KeyboardInterrupt()])
def test_an_interrupt_or_a_bug_in_an_update_leaves_the_weights_from_before_it(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = StablePPO("MlpPolicy", make_cartpole(), **SMALL)
    before, evaluate, calls = weights(model), model.policy.evaluate_actions, []

    def failing(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 5:
            raise error
        return evaluate(*args)

    monkeypatch.setattr(model.policy, "evaluate_actions", failing)
    with pytest.raises(type(error)):
        model.learn(64)
    assert len(calls) == 5
    assert all(th.equal(before[name], value) for name, value in model.policy.state_dict().items())
    assert model._undone_updates == 0


@pytest.mark.parametrize(
    ("guards", "complaint"),
    [
        ({"max_retries": float("inf")}, "max_retries must be a whole number of at least 0, not inf"),
        ({"probe_rows": 2.7}, "probe_rows must be a whole number of at least 2, not 2.7"),
        ({"undo": "false"}, "undo must be true or false, not 'false'"),
        ({"straight_through": None}, "straight_through must be true or false, not None"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(guards: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        StablePPO("MlpPolicy", "CartPole-v1", guards=guards)


def test_a_log_folder_that_cannot_be_written_does_not_hide_the_collapse(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    from sb3_stable_ppo.guards.reading import dump_minibatch

    assert "could not be kept" in dump_minibatch((th.zeros(2),), tmp_path / "file")


def test_a_model_that_has_trained_can_be_pickled_with_its_env_and_goes_on() -> None:
    model = StablePPO("MlpPolicy", make_cartpole(), n_steps=16, batch_size=16, seed=0).learn(32)
    copied = pickle.loads(pickle.dumps(model))
    assert_same_weights(model, copied)
    copied.learn(32, reset_num_timesteps=False)
    assert copied.num_timesteps == 64


def test_a_policy_that_the_user_has_compiled_is_guarded_as_it_is() -> None:
    plain = StablePPO("MlpPolicy", make_cartpole(), n_steps=16, batch_size=16, seed=0).learn(64)
    compiled = StablePPO("MlpPolicy", make_cartpole(), n_steps=16, batch_size=16, seed=0)
    compiled.policy = th.compile(compiled.policy, backend="eager")
    compiled.learn(64)
    assert compiled.logger.name_to_value["guards/update_kl"] == plain.logger.name_to_value["guards/update_kl"] > 0
    for found, expected in zip(compiled.policy.parameters(), plain.policy.parameters(), strict=True):
        assert th.equal(found, expected)
