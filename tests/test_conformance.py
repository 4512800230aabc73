"""One suite over the three algorithms: identity with stock, every guard, the undo, saving, and the canary."""

import inspect
import math
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from helpers.envs import SceneEnv
from helpers.guarded import Corrupt, Logged
from helpers.transformer import TokensExtractor
from helpers.weights import assert_same_weights
from sb3_stable_ppo import (
    CollapseError,
    HealthCallback,
    StableMaskablePPO,
    StablePPO,
    StableRecurrentPPO,
    StepLR,
    diagnose,
)
from sb3_stable_ppo.runs.folder import RunReader
from sb3_stable_ppo.schedules.learning_rate import counting_schedule

PAIRS = {StablePPO: PPO, StableMaskablePPO: MaskablePPO, StableRecurrentPPO: RecurrentPPO}
ALL = pytest.mark.parametrize("algorithm", PAIRS, ids=lambda a: a.__name__)
SMALL: dict[str, Any] = {"n_steps": 16, "batch_size": 8, "n_epochs": 2, "seed": 0, "learning_rate": 1e-3}
ACTION_SPACES = {
    "discrete": spaces.Discrete(3),
    "multi_discrete": spaces.MultiDiscrete([2, 3]),
    "multi_binary": spaces.MultiBinary(2),
    "box": spaces.Box(-1.0, 1.0, (2,)),
}


class Task(gym.Env[Any, Any]):
    """Any action space; the reward follows the first action; masks that forbid the last choice now and then."""

    def __init__(self, actions: str = "discrete", bad_obs_at: int = -1) -> None:
        self.observation_space = spaces.Box(-5.0, 5.0, (3,))
        self.action_space = ACTION_SPACES[actions]
        self.bad_obs_at = bad_obs_at
        self.clock = 0

    def _observe(self) -> np.ndarray:
        observation = self.np_random.normal(size=3).astype(np.float32)
        if self.clock == self.bad_obs_at:
            observation[1] = math.nan
        return observation

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        self.clock += 1
        return self._observe(), float(np.ravel(action)[0]), self.steps >= 7, False, {}

    def action_masks(self) -> np.ndarray:
        sizes = {"discrete": 3, "multi_discrete": 5, "multi_binary": 4}
        for name, size in sizes.items():
            if self.action_space == ACTION_SPACES[name]:
                mask = np.ones(size, dtype=bool)
                mask[-1] = self.clock % 3 > 0
                return mask
        raise NotImplementedError


def make(actions: str = "discrete", n_envs: int = 2, **kwargs: Any) -> VecEnv:
    return make_vec_env(lambda: Task(actions, **kwargs), n_envs, seed=0)


class Scene(SceneEnv):
    def action_masks(self) -> np.ndarray:
        return np.array([True, True])


def policy_of(algorithm: type, name: str = "StableMlpPolicy") -> Any:
    return algorithm.policy_aliases[name]


def build(algorithm: Any, env: VecEnv | None = None, **options: Any) -> Any:
    return algorithm(policy_of(algorithm), env or make(), **{**SMALL, **options})


def supports(algorithm: type, actions: str) -> bool:
    # MaskablePPO has no continuous actions; RecurrentPPO pads MultiBinary ones to integers, which its loss refuses
    return (algorithm, actions) not in {(StableMaskablePPO, "box"), (StableRecurrentPPO, "multi_binary")}


def assert_identical(algorithm: Any, policy: Any, make_env: Any, steps: int = 128, **options: Any) -> None:
    logs, models = [], []
    for each in (PAIRS[algorithm], algorithm):
        log = Logged()
        models.append(each(policy, make_env(), **{**SMALL, **options}).learn(steps, callback=log))
        logs.append([{k: v for k, v in u.items() if k.startswith("train/")} for u in log.updates])
    models[0].policy.set_training_mode(False)  # where BatchNorm's statistics move; with guards they have moved before
    assert_same_weights(models[1], models[0])
    assert logs[1] == logs[0]
    assert len(logs[0]) >= 2
    assert models[1]._undone_updates == 0


# -- identity ----------------------------------------------------------------------------------------------------------


@ALL
@pytest.mark.parametrize("actions", ACTION_SPACES)
def test_healthy_training_is_bit_identical_over_action_spaces(algorithm: Any, actions: str) -> None:
    if supports(algorithm, actions):
        assert_identical(algorithm, policy_of(algorithm), lambda: make(actions))


@pytest.mark.slow
@ALL
@pytest.mark.parametrize("options", [{"target_kl": 1e-4}, {"clip_range_vf": 0.1}, {"n_epochs": 5}, {"ent_coef": 0.1}])
def test_healthy_training_is_bit_identical_over_options(algorithm: Any, options: Any) -> None:
    assert_identical(algorithm, policy_of(algorithm), make, **options)


@ALL
def test_healthy_training_is_bit_identical_with_dict_observations(algorithm: Any) -> None:
    assert_identical(algorithm, policy_of(algorithm, "StableMultiInputPolicy"), lambda: make_vec_env(Scene, 2, seed=0))


@ALL
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_healthy_training_is_bit_identical_with_every_norm(algorithm: Any, norm: str) -> None:
    assert_identical(algorithm, policy_of(algorithm), make, policy_kwargs={"norm": norm}, learning_rate=1e-5)


@pytest.mark.parametrize("algorithm", [StablePPO, StableRecurrentPPO])
@pytest.mark.parametrize("squash", [False, True])
def test_healthy_training_is_bit_identical_with_gsde(algorithm: Any, squash: bool) -> None:
    policy_kwargs = {"squash_output": squash}
    assert_identical(algorithm, policy_of(algorithm), lambda: make("box"), use_sde=True, policy_kwargs=policy_kwargs)


TRANSFORMER: dict[str, Any] = {"features_extractor_class": TokensExtractor, "net_arch": [8], "norm": "none"}


@ALL
def test_healthy_training_is_bit_identical_with_a_transformer(algorithm: Any) -> None:
    assert_identical(algorithm, policy_of(algorithm), make, policy_kwargs=TRANSFORMER, learning_rate=1e-5)


@ALL
def test_a_transformer_is_guarded_and_read_by_health_and_diagnosis(algorithm: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    model = build(algorithm, policy_kwargs=TRANSFORMER).learn(64, callback=HealthCallback(folder=folder, budget=None))
    assert is_finite(model)
    lines = list(RunReader(folder).health())
    rows = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    layers = [lines[-1]["layers"], diagnose(model, rows).figures["layers"]]
    assert all(read["fc5"]["units"] == 16 and "srank" in read["fc5"] for read in layers)
    assert all(read.keys() == {"fc5", "pi.fc1", "vf.fc1"} for read in layers)


@ALL
def test_an_update_that_kills_the_units_of_a_token_wise_layer_is_undone(algorithm: Any) -> None:
    """Of 16 features 14 die, in every token: no token would show it."""
    model = build(algorithm, guards={"max_retries": 0, "max_kl": 100.0}, policy_kwargs=TRANSFORMER)
    step = model.policy.optimizer.step

    def kill(*args: Any, **kwargs: Any) -> Any:
        result = step(*args, **kwargs)
        model.policy.features_extractor.head[0].bias.data[:14] = -1e3
        return result

    model.policy.optimizer.step = kill
    with pytest.warns(UserWarning, match="of the live units of fc5 died"):
        model.learn(32)


@ALL
def test_guards_none_is_stock_training(algorithm: Any) -> None:
    ours = build(algorithm, guards=None).learn(128)
    assert_same_weights(ours, PAIRS[algorithm](policy_of(algorithm), make(), **SMALL).learn(128))


@ALL
def test_the_aliases_are_of_the_algorithms_own_kind(algorithm: Any) -> None:
    for name in ("StablePongPolicy", "StableCnnPolicy", "StableMlpPolicy", "StableMultiInputPolicy"):
        kind = algorithm.__name__.removeprefix("Stable").removesuffix("PPO")
        assert algorithm.policy_aliases[name].__name__ == name.replace("Stable", f"Stable{kind}")


# -- non-finite anything -----------------------------------------------------------------------------------------------


def is_finite(model: Any) -> bool:
    return all(bool(th.isfinite(tensor).all()) for tensor in model.policy.state_dict().values())


@ALL
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_nonfinite_old_log_prob_is_survived_and_counted(algorithm: Any, broken: float) -> None:
    log = Logged()
    model = build(algorithm, n_epochs=1).learn(32, callback=[Corrupt(log_probs=((3, 1), broken)), log])
    assert is_finite(model)
    assert log.updates[0]["guards/nonfinite_log_ratios"] == 1


class BadReward(gym.Wrapper[Any, Any, Any, Any]):
    def step(self, action: Any) -> Any:
        observation, reward, *rest = self.env.step(action)
        return observation, math.nan if self.env.unwrapped.clock == 5 else reward, *rest

    def action_masks(self) -> np.ndarray:
        return self.env.unwrapped.action_masks()


@ALL
def test_a_nan_reward_becomes_zero_before_gae(algorithm: Any) -> None:
    class Seen(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_rollout_end(self) -> None:
            buffer = self.model.rollout_buffer
            assert np.isfinite(buffer.advantages).all()
            assert buffer.rewards[4].tolist() == [0.0, 0.0]

    log = Logged()
    env = make_vec_env(lambda: BadReward(Task()), 2, seed=0)
    with pytest.warns(UserWarning, match="rewards at step 10: 2 of 2 are not finite and become 0"):
        model = build(algorithm, env).learn(32, callback=[Seen(), log])
    assert is_finite(model)
    assert log.updates[0]["guards/nonfinite_rewards"] == 2


@ALL
def test_a_poisoned_gradient_leaves_weights_and_moments_unchanged(algorithm: Any) -> None:
    model = build(algorithm, n_epochs=1).learn(32)
    before = {name: tensor.clone() for name, tensor in model.policy.state_dict().items()}
    moments = [{k: v.clone() for k, v in s.items()} for s in model.policy.optimizer.state_dict()["state"].values()]
    handle = model.policy.value_net.weight.register_hook(lambda gradient: gradient * math.nan)
    log = Logged()
    with pytest.warns(UserWarning, match=r"gradient of .*: \d+ of \d+ values are not finite"):
        model.learn(32, callback=log, reset_num_timesteps=False)
    handle.remove()
    assert all(th.equal(tensor, before[name]) for name, tensor in model.policy.state_dict().items())
    after = model.policy.optimizer.state_dict()["state"].values()
    assert all(th.equal(old[k], new[k]) for old, new in zip(moments, after, strict=True) for k in old)
    assert log.updates[0]["guards/skipped_steps"] == 4
    assert model._undone_updates == 0


@ALL
def test_a_nonfinite_observation_raises_and_names_env_field_and_step(algorithm: Any) -> None:
    with pytest.raises(CollapseError, match=r"observation of env 0 at step 8: 1 of 3 values are not finite"):
        build(algorithm, make(bad_obs_at=4)).learn(64)


@ALL
def test_a_nonfinite_observation_is_repeated_where_asked_for(algorithm: Any) -> None:
    class Seen(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_rollout_end(self) -> None:
            observations = self.model.rollout_buffer.observations
            assert np.isfinite(observations).all()
            assert np.array_equal(observations[4], observations[3])

    log = Logged()
    model = build(algorithm, make(bad_obs_at=4), guards={"on_nonfinite_obs": "repeat_last"})
    model.learn(32, callback=[Seen(), log])
    assert is_finite(model)
    assert log.updates[0]["guards/nonfinite_observations"] == 2


def test_a_nonfinite_terminal_observation_is_found_too() -> None:
    class Truncated(Task):
        def step(self, action: Any) -> Any:
            observation, reward, done, _, info = super().step(action)
            return (np.full(3, math.nan, np.float32) if done else observation), reward, False, done, info

    env = make_vec_env(Truncated, 2, seed=0)
    with pytest.raises(CollapseError, match="3 of 3 values are not finite"):
        build(StablePPO, env).learn(32)
    log = Logged()
    repeat = {"on_nonfinite_obs": "repeat_last"}
    model = build(StablePPO, make_vec_env(Truncated, 2, seed=0), guards=repeat).learn(32, callback=log)
    assert log.updates[0]["guards/nonfinite_rewards"] == 0
    assert is_finite(model)


@ALL
def test_a_minibatch_of_one_sample_is_survived(algorithm: Any) -> None:
    """sb3-contrib divides by the standard deviation of one value: NaN weights with stock."""
    options = {"n_steps": 17, "batch_size": 16, "n_epochs": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = build(algorithm, make(n_envs=1), **options).learn(34)
    assert is_finite(model)
    assert model._undone_updates == 0
    if algorithm is not StablePPO:
        stock = PAIRS[algorithm](policy_of(algorithm), make(n_envs=1), **{**SMALL, **options})
        with pytest.raises(ValueError, match="invalid values"):
            stock.learn(34)


# -- undo --------------------------------------------------------------------------------------------------------------


@ALL
def test_an_update_past_max_kl_is_undone_retried_and_dropped_with_everything_restored(algorithm: Any) -> None:
    model = build(algorithm, guards={"max_kl": 1e-12, "max_retries": 2}, learning_rate=StepLR(1e-2, 1, 0.5))
    log = Logged()
    with pytest.warns(UserWarning, match="An update was undone: it moved the policy by a KL of"):
        model.learn(32, callback=log)
    untouched = build(algorithm, learning_rate=StepLR(1e-2, 1, 0.5))
    assert_same_weights(model, untouched)  # the optimizer's state is empty again too
    assert (model._undone_updates, model._dropped_updates, model._n_updates) == (3, 1, 0)
    assert model._lr_scale == 1 / 8
    assert log.updates[0]["guards/undone_updates"] == 3
    assert log.updates[0]["train/learning_rate"] == 1e-2 / 4  # of the last attempt
    schedule = counting_schedule(model.learning_rate)
    assert schedule is not None
    assert schedule.count == 1  # retries do not advance it


@pytest.mark.slow
@ALL
def test_an_update_at_a_hundred_times_the_rate_is_tamed(algorithm: Any) -> None:
    log = Logged()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = build(algorithm, learning_rate=0.1, n_epochs=10).learn(32 * 12, callback=log)
    assert is_finite(model)
    assert model._undone_updates > 0
    assert 0 < model._lr_scale < 1
    accepted = [update for update in log.updates if update["guards/update_kl"] <= 1.0]
    assert len(accepted) >= len(log.updates) - model._dropped_updates > 0


@ALL
def test_an_update_that_kills_units_is_undone(algorithm: Any) -> None:
    model = build(algorithm, guards={"max_retries": 0}, policy_kwargs={"norm": "none", "activation": "relu"})
    step = model.policy.optimizer.step

    def kill(*args: Any, **kwargs: Any) -> Any:
        result = step(*args, **kwargs)
        model.policy.mlp_extractor.value_net[0].bias.data.fill_(-1e3)
        return result

    model.policy.optimizer.step = kill
    with pytest.warns(UserWarning, match="100% of the live units of vf.fc1 died"):
        model.learn(32)
    assert bool((model.policy.mlp_extractor.value_net[0].bias == 0).all())


@ALL
def test_weights_that_are_not_finite_after_an_update_are_undone_and_named(algorithm: Any) -> None:
    model = build(algorithm, guards={"max_retries": 0}, n_epochs=1, batch_size=32)
    step = model.policy.optimizer.step

    def poison(*args: Any, **kwargs: Any) -> Any:
        result = step(*args, **kwargs)
        model.policy.action_net.bias.data[0] = math.nan
        return result

    model.policy.optimizer.step = poison
    with pytest.warns(UserWarning, match=r"An update was undone: action_net.bias: 1 of 3 values are not finite"):
        model.learn(32)
    assert is_finite(model)


@ALL
def test_a_value_error_inside_train_is_undone(algorithm: Any) -> None:
    model = build(algorithm, guards={"max_retries": 0})
    step = model.policy.optimizer.step

    def poison(*args: Any, **kwargs: Any) -> Any:
        result = step(*args, **kwargs)
        model.policy.action_net.weight.data.fill_(math.nan)
        return result

    model.policy.optimizer.step = poison
    with pytest.warns(UserWarning, match=r"An update was undone: train\(\) failed: Expected parameter"):
        model.learn(32)
    assert is_finite(model)
    assert "evaluate_actions" not in model.policy.__dict__


@ALL
def test_updates_that_keep_coming_to_nothing_end_in_a_collapse_error_with_the_minibatch(
    algorithm: Any, tmp_path: Path
) -> None:
    guards = {"max_kl": 1e-12, "max_retries": 0, "max_consecutive_skips": 3}
    model = build(algorithm, guards=guards, tensorboard_log=str(tmp_path))
    with (
        pytest.warns(UserWarning, match="undone"),
        pytest.raises(CollapseError, match=r"3 updates in a row came to nothing; the last: it moved the policy"),
    ):
        model.learn(32 * 10)
    assert model.num_timesteps == 32 * 3
    (dumped,) = tmp_path.rglob("collapse_minibatch.npz")
    with np.load(dumped) as arrays:
        assert {"observations", "actions", "advantages", "old_log_prob"} <= set(arrays)


@ALL
def test_updates_whose_every_step_is_skipped_end_in_a_collapse_error(algorithm: Any, tmp_path: Path) -> None:
    model = build(algorithm, guards={"max_consecutive_skips": 2}, tensorboard_log=str(tmp_path))
    model.policy.value_net.weight.register_hook(lambda gradient: gradient * math.nan)
    with (
        pytest.warns(UserWarning, match="gradient of"),
        pytest.raises(CollapseError, match=r"2 updates in a row came to nothing; the last: gradient of "),
    ):
        model.learn(32 * 5)


@ALL
def test_the_scale_and_the_counts_survive_save_and_load(algorithm: Any, tmp_path: Path) -> None:
    model = build(algorithm, guards={"max_kl": 1e-12, "max_retries": 1})
    with pytest.warns(UserWarning, match="undone"):
        model.learn(32)
    model.save(tmp_path / "model.zip")
    loaded = algorithm.load(tmp_path / "model.zip", env=make(), guards={"max_kl": 0.5})
    assert (loaded._lr_scale, loaded._scale_moves, loaded._undone_updates) == (0.25, True, 2)
    log = Logged()
    loaded.learn(32, callback=log, reset_num_timesteps=False)
    assert log.updates[0]["train/learning_rate"] == 1e-3 / 4
    assert loaded._lr_scale == pytest.approx(0.25 * 1.3)


@ALL
def test_the_scale_stays_one_while_nothing_was_undone(algorithm: Any) -> None:
    model = build(algorithm).learn(128)
    assert (model._lr_scale, model._scale_moves) == (1.0, False)


@ALL
def test_a_zip_of_the_stock_algorithm_loads_and_trains(algorithm: Any, tmp_path: Path) -> None:
    stock = PAIRS[algorithm](policy_of(algorithm), make(), **SMALL).learn(64)
    stock.save(tmp_path / "stock.zip")
    ours = algorithm.load(tmp_path / "stock.zip", env=make())
    assert_same_weights(ours, stock)
    ours.learn(64)
    ours.save(tmp_path / "ours.zip")
    assert_same_weights(PAIRS[algorithm].load(tmp_path / "ours.zip", env=make()), ours)


@ALL
def test_policies_are_saved_and_loaded_by_themselves(algorithm: Any, tmp_path: Path) -> None:
    recurrent = algorithm is StableRecurrentPPO
    policy_kwargs = {"norm": "batch", **({"lstm_hidden_size": 8, "n_lstm_layers": 2} if recurrent else {})}
    model = build(algorithm, policy_kwargs=policy_kwargs).learn(64)
    model.policy.save(str(tmp_path / "policy.pt"))
    loaded = policy_of(algorithm).load(str(tmp_path / "policy.pt"))
    assert all(th.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.policy.state_dict().items())


# -- the canary --------------------------------------------------------------------------------------------------------

RELIED_ON = {
    "all": (
        "self.policy.set_training_mode(True)",
        "self._update_learning_rate(self.policy.optimizer)",
        "for rollout_data in self.rollout_buffer.get(self.batch_size):",
        "values, log_prob, entropy = self.policy.evaluate_actions(",
        "ratio = th.exp(log_prob - rollout_data.old_log_prob)",
        "if entropy is None:",
        "self.policy.optimizer.zero_grad()",
        "th.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)",
        "self.policy.optimizer.step()",
        "self._n_updates += 1",
    ),
    PPO: (
        "if self.normalize_advantage and len(advantages) > 1:",
        "advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)",
    ),
    MaskablePPO: (
        "if self.normalize_advantage:",
        "advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)",
        "action_masks=rollout_data.action_masks",
    ),
    RecurrentPPO: (
        "if self.normalize_advantage:",
        "mask = rollout_data.mask > 1e-8",
        "advantages = (advantages - advantages[mask].mean()) / (advantages[mask].std() + 1e-8)",
    ),
}


@pytest.mark.parametrize("stock", [PPO, MaskablePPO, RecurrentPPO])
def test_what_the_guards_rely_on_in_train_is_still_there(stock: Any) -> None:
    source = " ".join(inspect.getsource(stock.train).split())
    for line in (*RELIED_ON["all"], *RELIED_ON[stock]):
        assert line in source, f"{stock.__name__}.train no longer has: {line}"


@pytest.mark.parametrize("stock", [PPO, MaskablePPO, RecurrentPPO])
def test_what_the_guards_rely_on_in_collect_rollouts_is_still_there(stock: Any) -> None:
    source = " ".join(inspect.getsource(stock.collect_rollouts).split())
    for line in ("env.step(", "rollout_buffer.compute_returns_and_advantage(last_values=values, dones=dones)"):
        assert line in source, f"{stock.__name__}.collect_rollouts no longer has: {line}"
