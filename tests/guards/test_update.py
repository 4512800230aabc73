"""The guards: exact on the numbers they act on, invisible on all others."""

import inspect
import math
import textwrap
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3.ppo.ppo
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.policies import ActorCriticPolicy

from helpers.envs import make_cartpole, make_pong
from helpers.guarded import Corrupt, Logged
from helpers.weights import assert_same_weights
from sb3_stable_ppo import CollapseError, GuardConfig, StableMlpPolicy, StablePongPolicy, StablePPO, UsageError

SMALL: dict[str, Any] = {"n_steps": 16, "batch_size": 8, "n_epochs": 3, "seed": 0}
NAN, INF = math.nan, math.inf


# -- configuration -----------------------------------------------------------------------------------------------------


def test_guards_may_be_a_dict_as_yaml_gives_it() -> None:
    assert GuardConfig.of({"max_log_ratio": 10, "fallback_ratio": [0.1, 10]}) == GuardConfig(
        max_log_ratio=10.0, fallback_ratio=(0.1, 10.0)
    )


@pytest.mark.parametrize(
    ("guards", "complaint"),
    [
        ({"max_log_ration": 3}, r"Unknown guard 'max_log_ration' \(did you mean max_log_ratio"),
        ({"max_log_ratio": 0}, "max_log_ratio must be above 0"),
        ({"max_kl": -1}, "max_kl must be a number of at least 0"),
        ({"max_kl": None}, "max_kl must be a number of at least 0, or inf, not None"),
        ({"max_newly_inactive_fraction": 1.5}, "max_newly_inactive_fraction must be a number from 0 to 1"),
        ({"max_kl": "small"}, "max_kl must be a number of at least 0, or inf, not 'small'"),
        ({"on_nonfinite_obs": "ignore"}, "Unknown on_nonfinite_obs 'ignore': choose one of raise, repeat_last"),
        ({"fallback_ratio": [2, 20]}, "two bounds around 1"),
        ({"min_advantage_std": -1}, "min_advantage_std must be a number of at least 0"),
        (7, "must be a GuardConfig, a dict or None"),
    ],
)
def test_wrong_guards_are_an_error_that_says_what_is_right(guards: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        StablePPO("MlpPolicy", make_cartpole(), guards=guards)


def test_guards_are_saved_loaded_and_changed_at_load(tmp_path: Path) -> None:
    model = StablePPO("MlpPolicy", make_cartpole(), guards={"max_log_ratio": 7}, **SMALL)
    model.save(tmp_path / "model")
    assert StablePPO.load(tmp_path / "model").guards == GuardConfig(max_log_ratio=7.0)
    assert StablePPO.load(tmp_path / "model", guards={"max_log_ratio": 3}).guards == GuardConfig(max_log_ratio=3.0)
    assert StablePPO.load(tmp_path / "model", guards=None).guards is None


def test_a_zip_of_another_algorithm_is_one_error_that_says_so(tmp_path: Path) -> None:
    DQN("MlpPolicy", "CartPole-v1", buffer_size=10).save(tmp_path / "dqn")
    with pytest.raises(UsageError, match="DQNPolicy is the policy of another algorithm, which StablePPO cannot train"):
        StablePPO.load(tmp_path / "dqn")


def test_a_function_that_makes_the_policy_is_taken_as_sb3_takes_it() -> None:
    def policy(*args: Any, **kwargs: Any) -> ActorCriticPolicy:
        return ActorCriticPolicy(*args, **kwargs)

    assert isinstance(StablePPO(policy, make_cartpole(), **SMALL).policy, ActorCriticPolicy)  # type: ignore[arg-type]


def test_saving_leaves_the_models_guards_as_they_are(tmp_path: Path) -> None:
    model = StablePPO(
        "MlpPolicy", make_cartpole(), guards={"max_kl": float("inf"), "fallback_ratio": [0.5, 2]}, **SMALL
    )
    guards = model.guards
    model.save(tmp_path / "model")
    assert model.guards is guards
    assert StablePPO.load(tmp_path / "model").guards == guards
    with pytest.raises(OSError):  # noqa: PT011  # whichever the system has for it
        model.save(tmp_path / "model.zip" / "below_a_file")
    assert model.guards is guards


def test_a_collapse_error_is_a_value_error_so_that_tuning_prunes_the_trial() -> None:
    assert issubclass(CollapseError, ValueError)


# -- in training -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guards", [GuardConfig(), None])
@pytest.mark.parametrize("policy", ["MlpPolicy", StableMlpPolicy])
@pytest.mark.parametrize("options", [{}, {"target_kl": 0.001}, {"clip_range_vf": 0.1}, {"normalize_advantage": False}])
def test_healthy_training_is_bit_identical_to_stock_ppo_on_cartpole(policy: Any, guards: Any, options: Any) -> None:
    stock_log, our_log = Logged(), Logged()
    stock = PPO(policy, make_cartpole(), **SMALL, **options).learn(128, callback=stock_log)
    ours = StablePPO(policy, make_cartpole(), guards=guards, **SMALL, **options).learn(128, callback=our_log)
    assert_same_weights(ours, stock)
    assert [{k: v for k, v in update.items() if k.startswith("train/")} for update in our_log.updates] == [
        {k: v for k, v in update.items() if k.startswith("train/")} for update in stock_log.updates
    ]
    assert len(our_log.updates) == 4


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["CnnPolicy", StablePongPolicy])
def test_healthy_training_is_bit_identical_to_stock_ppo_on_pong(policy: Any) -> None:
    stock, ours = (
        algorithm(policy, make_pong(), n_steps=32, batch_size=16, n_epochs=2, learning_rate=1e-4, ent_coef=0.01, seed=0)
        .learn(128)
        for algorithm in (PPO, StablePPO)
    )  # fmt: skip
    stock.policy.set_training_mode(False)  # where BatchNorm's statistics move; with guards they have moved before
    assert_same_weights(ours, stock)


def test_healthy_training_logs_zeros_and_no_ratio_error() -> None:
    log = Logged()
    StablePPO("MlpPolicy", make_cartpole(), **SMALL).learn(64, callback=log)
    for update in log.updates:
        assert update["guards/log_ratio_clamp_fraction"] == 0.0
        assert update["guards/nonfinite_log_ratios"] == 0
        assert update["guards/advantage_std_skips"] == 0
        assert update["norm/first_ratio_error"] < 1e-5


def is_finite(model: PPO) -> bool:
    return all(bool(th.isfinite(p).all()) for p in model.policy.parameters())


def test_a_nan_log_prob_breaks_stock_ppo_and_not_stable_ppo() -> None:
    corrupt, log = Corrupt(log_probs=((3, 1), NAN)), Logged()
    with pytest.raises(ValueError, match="found invalid values"):
        PPO("MlpPolicy", make_cartpole(), **SMALL).learn(32, callback=corrupt)
    model = StablePPO("MlpPolicy", make_cartpole(), **SMALL).learn(32, callback=[corrupt, log])
    assert is_finite(model)
    assert log.updates[0]["guards/nonfinite_log_ratios"] == 3  # one row, seen in each of three epochs


def test_clamped_rows_are_counted_as_a_share_of_all() -> None:
    log = Logged()
    corrupt = Corrupt(log_probs=((slice(0, 4), 0), -60.0))
    model = StablePPO("MlpPolicy", make_cartpole(), **SMALL).learn(32, callback=[corrupt, log])
    assert log.updates[0]["guards/log_ratio_clamp_fraction"] == 4 / 32
    assert is_finite(model)


def test_a_policy_whose_deviation_has_collapsed_breaks_stock_ppo_and_not_stable_ppo() -> None:
    """Its log-probabilities are infinite, and so are their gradients, which a masked row does not stop: 0 * inf."""
    options: dict[str, Any] = {"policy_kwargs": {"log_std_init": -45}, **SMALL}
    with pytest.raises(ValueError, match="found invalid values"):
        PPO("MlpPolicy", gym.make("Pendulum-v1"), **options).learn(64)
    log = Logged()
    with pytest.warns(UserWarning, match="are not finite"):
        model = StablePPO("MlpPolicy", gym.make("Pendulum-v1"), **options).learn(64, callback=log)
    assert is_finite(model)
    assert log.updates[0]["guards/skipped_steps"] > 0


class Bandit(gym.Env[np.ndarray, int]):
    """One of two arms pays, very little; an episode ends after four pulls."""

    observation_space = spaces.Box(-1.0, 1.0, (2,))
    action_space = spaces.Discrete(2)

    def __init__(self, pay: float) -> None:
        self.pay, self.pulls = pay, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action: int) -> Any:
        self.pulls += 1
        return np.zeros(2, np.float32), self.pay * (action == 1), self.pulls % 4 == 0, False, {}


@pytest.mark.parametrize("pay", [1.0, 1e-5])
def test_what_very_small_rewards_teach_is_learnt_as_by_stock_ppo(pay: float) -> None:
    options: dict[str, Any] = {"n_steps": 128, "batch_size": 64, "learning_rate": 1e-3, "seed": 0}
    stock = PPO("MlpPolicy", Bandit(pay), **options).learn(1280)
    ours = StablePPO("MlpPolicy", Bandit(pay), guards={"undo": False}, **options).learn(1280)
    assert_same_weights(stock, ours)
    share = ours.policy.get_distribution(th.zeros(1, 2)).distribution.probs[0, 1]  # type: ignore[union-attr]
    assert share > 0.9


class FlatEnv(gym.Env[np.ndarray, int]):
    """Never a reward, always the same observation."""

    observation_space = spaces.Box(-1.0, 1.0, (2,))
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action: int) -> Any:
        return np.zeros(2, np.float32), 0.0, False, False, {}


def test_constant_advantages_are_not_normalised_counted_and_warned_of_once() -> None:
    log = Logged()
    model = StablePPO("MlpPolicy", FlatEnv(), n_steps=8, batch_size=4, n_epochs=2, gamma=0.0, seed=0)
    model.policy.value_net.weight.data.zero_()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.learn(16, callback=log)
    ours = [str(w.message) for w in caught if "standard deviation below 1e-05" in str(w.message)]
    assert len(ours) == 1
    assert log.updates[0]["guards/advantage_std_skips"] == 4
    assert is_finite(model)


def test_an_entropy_that_has_no_closed_form_is_estimated_from_unclamped_log_probs() -> None:
    """With squashed gSDE SB3 estimates the entropy by -log_prob; a clamp of the ratio must not change it."""
    options: dict[str, Any] = {"use_sde": True, "policy_kwargs": {"squash_output": True}, "ent_coef": 0.1, **SMALL}
    log, corrupt = Logged(), Corrupt(log_probs=((slice(0, 2), 0), -60.0))
    model = StablePPO("MlpPolicy", gym.make("Pendulum-v1"), **{**options, "n_epochs": 1, "batch_size": 16})
    model.learn(16, callback=[log])
    clean = log.updates[0]["train/entropy_loss"]
    log.updates.clear()
    model = StablePPO("MlpPolicy", gym.make("Pendulum-v1"), **{**options, "n_epochs": 1, "batch_size": 16})
    model.learn(16, callback=[corrupt, log])
    assert log.updates[0]["guards/log_ratio_clamp_fraction"] == 2 / 16
    assert log.updates[0]["train/entropy_loss"] == pytest.approx(clean, rel=1e-5)


def test_an_error_inside_train_leaves_nothing_wrapped() -> None:
    model = StablePPO("MlpPolicy", make_cartpole(), **SMALL)
    model.learn(32)

    def fail() -> None:
        raise RuntimeError("stop")

    model.policy.optimizer.step = fail
    with pytest.raises(RuntimeError):
        model.train()
    assert "get" not in model.rollout_buffer.__dict__
    assert "evaluate_actions" not in model.policy.__dict__
    assert model.normalize_advantage is True


# -- another train() ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("undo", [True, False])
@pytest.mark.parametrize("renamed", ["get", "evaluate_actions", "both"])
def test_an_update_that_the_guards_saw_nothing_of_is_an_error(
    undo: bool, renamed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = textwrap.dedent(inspect.getsource(PPO.train))
    if renamed != "evaluate_actions":
        source = source.replace("self.rollout_buffer.get(", "self.rollout_buffer.minibatches(")
    if renamed != "get":
        source = source.replace("self.policy.evaluate_actions(", "self.policy.evaluate(")
    names: dict[str, Any] = {}
    exec(source, vars(stable_baselines3.ppo.ppo), names)
    monkeypatch.setattr(PPO, "train", names["train"])
    monkeypatch.setattr(RolloutBuffer, "minibatches", RolloutBuffer.get, raising=False)
    monkeypatch.setattr(StableMlpPolicy, "evaluate", StableMlpPolicy.evaluate_actions, raising=False)
    model = StablePPO("StableMlpPolicy", make_cartpole(), guards={"undo": undo}, **SMALL)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    with pytest.raises(RuntimeError, match=f"stable-baselines3 {stable_baselines3.__version__} or sb3-contrib"):
        model.learn(32)
    if undo:
        assert all(th.equal(value, before[name]) for name, value in model.policy.state_dict().items())


def test_an_update_that_target_kl_stops_at_once_is_a_guarded_one() -> None:
    model = StablePPO("StableMlpPolicy", make_cartpole(), target_kl=1e-12, learning_rate=0.05, **SMALL)
    log = Logged()
    model.learn(64, callback=log)
    assert [update["guards/log_ratio_clamp_fraction"] for update in log.updates] == [0.0] * len(log.updates)
