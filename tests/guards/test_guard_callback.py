"""GuardCallback: real failures in real algorithms, exact counts, and nothing changed where all is well."""

import copy
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib import ARS, QRDQN, TQC, CrossQ
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback, EveryNTimesteps
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecMonitor, VecNormalize

from helpers.interventions import OFF, net
from helpers.weights import assert_same, assert_same_weights
from sb3_stable_ppo import CollapseError, StablePPO
from sb3_stable_ppo.common.tensors import all_finite
from sb3_stable_ppo.guards.callback import GuardCallback
from sb3_stable_ppo.guards.checked_step import WINDOW
from sb3_stable_ppo.guards.last_good import LastGood, named_tensors

ON: dict[str, Any] = {"n_steps": 16, "seed": 0}
ALGORITHMS: dict[str, tuple[Any, dict[str, Any]]] = {
    "SAC": (SAC, OFF),
    "TD3": (TD3, OFF),
    "DDPG": (DDPG, OFF),
    "TQC": (TQC, OFF),
    "CrossQ": (CrossQ, OFF),
    "DQN": (DQN, {"train_freq": 1, "target_update_interval": 20, **OFF}),
    "QRDQN": (QRDQN, {"train_freq": 1, "target_update_interval": 20, **OFF}),
    "A2C": (A2C, ON),
    "PPO": (PPO, {"batch_size": 8, "n_epochs": 2, **ON}),
}
STEPS = 96


class Sensor(gym.Env[np.ndarray, Any]):
    """Episodes of so many steps; at chosen steps, counted over all episodes, a reading or the reward is not finite."""

    observation_space = spaces.Box(-1, 1, (3,), np.float32)

    def __init__(
        self, discrete: bool, nan_at: tuple[int, ...] = (), inf_at: tuple[int, ...] = (), length: int = 10
    ) -> None:
        self.action_space = spaces.Discrete(2) if discrete else spaces.Box(-1, 1, (1,), np.float32)
        self.nan_at, self.inf_at, self.length, self.t = nan_at, inf_at, length, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        observation, reward = self._observe(), float(np.sum(action))
        observation[1] = np.nan if self.t in self.nan_at else observation[1]
        return observation, np.inf if self.t in self.inf_at else reward, self.t % self.length == 0, False, {}

    def _observe(self) -> np.ndarray:
        return self.np_random.uniform(-1, 1, 3).astype(np.float32)


def make(name: str, normalise: bool = False, **faults: Any) -> Any:
    cls, options = ALGORITHMS[name]
    env: Any = DummyVecEnv([lambda: Sensor(name in ("DQN", "QRDQN", "A2C", "PPO"), **faults)])
    return cls("MlpPolicy", VecNormalize(env) if normalise else env, **options, **net())


def quiet(model: Any, guard: GuardCallback, *others: BaseCallback, steps: int = STEPS, **options: Any) -> Any:
    """Train; the warnings are no part of the claim."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.learn(steps, callback=[guard, *others], **options)


def counts(guard: GuardCallback) -> dict[str, int]:
    names = ("skipped_steps", "restored", "nonfinite_rewards", "nonfinite_observations")
    return {name: getattr(guard, name) for name in names if getattr(guard, name)}


def is_finite(model: Any) -> bool:
    tensors = [tensor for _, tensor in named_tensors(model.get_parameters())]
    return all_finite(tensors) and (getattr(model, "log_ent_coef", None) is None or all_finite([model.log_ent_coef]))


def optimizers(model: Any) -> dict[str, th.optim.Optimizer]:
    return LastGood(model).optimizers


def assert_given_back(model: Any) -> None:
    env = model.env
    while env is not None:
        assert "step_wait" not in env.__dict__
        env = getattr(env, "venv", None)
    assert not any(optimizer._optimizer_step_pre_hooks for optimizer in optimizers(model).values())


class When(BaseCallback):
    """Does something at one step, in the middle of a rollout."""

    def __init__(self, step: int, what: Callable[[Any], Any]) -> None:
        super().__init__()
        self.step, self.what = step, what

    def _on_step(self) -> bool:
        if self.num_timesteps == self.step:
            self.what(self.model)
        return True


def nan_gradients(model: Any, optimizer: str, *at: int) -> None:
    """Make a gradient NaN at some steps of an optimizer, counted from 1. Hooks run in the order of registration."""
    seen = [0]

    def spoil(each: th.optim.Optimizer, *_: Any) -> None:
        seen[0] += 1
        if seen[0] in at or not at:
            each.param_groups[0]["params"][0].grad.view(-1)[0] = th.nan

    optimizers(model)[optimizer].register_step_pre_hook(spoil)


def nan_weights(model: Any, optimizer: str, at: int, tensor: Any = None) -> None:
    """Make a weight NaN behind one step of an optimizer, counted from 1."""
    seen = [0]

    def spoil(each: th.optim.Optimizer, *_: Any) -> None:
        seen[0] += 1
        if seen[0] == at:
            with th.no_grad():
                (each.param_groups[0]["params"][0] if tensor is None else tensor).view(-1)[0] = th.nan

    optimizers(model)[optimizer].register_step_post_hook(spoil)


FIRST = {"A2C": "policy.optimizer", "PPO": "policy.optimizer", "DQN": "policy.optimizer", "QRDQN": "policy.optimizer"}


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_on_healthy_data_training_is_bit_identical_to_stock(name: str, normalise: bool) -> None:
    guard = GuardCallback(check_every=5)
    plain, guarded = make(name, normalise).learn(STEPS), make(name, normalise).learn(STEPS, callback=guard)
    assert_same_weights(plain, guarded)
    assert np.array_equal(plain._last_obs, guarded._last_obs)
    assert counts(guard) == {}
    if normalise:
        assert np.array_equal(plain.env.obs_rms.mean, guarded.env.obs_rms.mean)
        assert plain.env.ret_rms.var == guarded.env.ret_rms.var
    assert guarded.logger.name_to_value["guards/skipped_steps"] == 0
    assert_given_back(guarded)


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_what_the_env_gives_is_mended_before_it_enters_a_buffer_or_a_normaliser(name: str, normalise: bool) -> None:
    """Step 30 ends an episode: its observation is the terminal one."""
    model = make(name, normalise, nan_at=(5, 30, 41), inf_at=(7, 42))
    guard = GuardCallback("repeat_last")
    quiet(model, guard)
    assert counts(guard) == {"nonfinite_observations": 3, "nonfinite_rewards": 2}
    assert is_finite(model)
    buffer = getattr(model, "replay_buffer", None) or model.rollout_buffer
    stored = [buffer.observations, buffer.rewards, getattr(buffer, "next_observations", buffer.rewards)]
    assert all(np.isfinite(array).all() for array in stored)
    if normalise:
        assert np.isfinite(model.env.obs_rms.mean).all()
        assert np.isfinite(model.env.ret_rms.var)
    assert_given_back(model)


@pytest.mark.parametrize("normalise", [False, True])
def test_the_last_good_observation_is_the_one_in_the_buffer(normalise: bool) -> None:
    model = make("SAC", normalise, nan_at=(5,), inf_at=(7,))
    quiet(model, GuardCallback("repeat_last"))
    buffer = model.replay_buffer
    assert np.array_equal(buffer.next_observations[4], buffer.next_observations[3])
    assert not np.array_equal(buffer.next_observations[5], buffer.next_observations[4])
    assert buffer.rewards[6] == 0.0


def test_a_frame_stack_does_not_carry_a_bad_frame_along() -> None:
    env = VecNormalize(VecFrameStack(DummyVecEnv([lambda: Sensor(False, nan_at=(5,))]), 4))
    model = SAC("MlpPolicy", env, **OFF, **net())
    guard = GuardCallback("repeat_last")
    quiet(model, guard)
    assert guard.nonfinite_observations == 1
    assert np.isfinite(env.obs_rms.mean).all()  # type: ignore[union-attr]


@pytest.mark.parametrize("normalise", [False, True])
def test_by_default_a_bad_observation_ends_the_run_and_is_named(normalise: bool) -> None:
    model = make("TD3", normalise, nan_at=(5,))
    with pytest.raises(CollapseError, match=r"env 0 at step 5: 1 of 3 .*GuardCallback\(on_nonfinite_obs='repeat_last"):
        model.learn(STEPS, callback=GuardCallback())
    assert_given_back(model)
    if normalise:
        assert np.isfinite(model.env.obs_rms.mean).all()


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_step_on_a_gradient_that_is_not_finite_is_skipped_and_counted(name: str) -> None:
    model, guard = make(name), GuardCallback()
    nan_gradients(model, FIRST.get(name, "critic.optimizer"), 2, 4)
    with pytest.warns(UserWarning, match="gradient of .* 1 of .* values are not finite. The step of .* is skipped"):
        model.learn(STEPS, callback=guard)
    assert counts(guard) == {"skipped_steps": 2}
    assert model.logger.name_to_value["guards/skipped_steps"] <= 2  # of it, those since the last line
    assert is_finite(model)


@pytest.mark.parametrize("name", ["SAC", "TQC", "CrossQ"])
def test_the_optimizer_of_the_entropy_coefficient_is_guarded_too(name: str) -> None:
    model, guard = make(name), GuardCallback()
    nan_gradients(model, "ent_coef_optimizer", 3)
    quiet(model, guard)
    assert counts(guard) == {"skipped_steps": 1}
    assert is_finite(model)
    (state,) = model.ent_coef_optimizer.state.values()
    updates = model._n_updates // getattr(model, "policy_delay", 1)
    assert state["step"] == updates - 1


@pytest.mark.parametrize("name", ALGORITHMS)
def test_weights_that_become_nan_are_restored(name: str) -> None:
    model, guard = make(name), GuardCallback(check_every=4)
    # The last step of an update: what follows within the same update would fail on it in train() itself
    at = {"A2C": 2, "PPO": 8}.get(name, 12)
    nan_weights(model, FIRST.get(name, "actor.optimizer"), at)
    with pytest.warns(UserWarning, match="values are not finite. The last good weights are restored"):
        model.learn(STEPS, callback=guard)
    assert counts(guard) == {"restored": 1}
    assert is_finite(model)


def test_what_comes_back_is_the_last_copy_with_targets_optimizers_and_entropy_coefficient() -> None:
    """Three steps an update: copies after updates 2, 4, 6, ...; the weights break in update 7."""
    kept: list[Any] = []

    class Keep(BaseCallback):
        def _on_rollout_start(self) -> None:
            model: Any = self.model
            kept.append(copy.deepcopy({**model.get_parameters(), "log_ent_coef": model.log_ent_coef.detach()}))

        def _on_step(self) -> bool:
            return True

    model, guard = make("SAC"), GuardCallback(check_every=6)
    nan_weights(model, "actor.optimizer", 7)
    quiet(model, guard, Keep(), steps=30)
    after_update = kept[OFF["learning_starts"] :]
    assert guard.restored == 1
    assert_same(after_update[7], after_update[6], "")
    for moved in (after_update[5], after_update[8]):
        assert not th.equal(moved["log_ent_coef"], after_update[6]["log_ent_coef"])


def test_what_interventions_remember_goes_back_with_the_weights_and_what_is_new_stays() -> None:
    model, guard = make("TD3"), GuardCallback(check_every=10**6)

    def remember(model: Any) -> None:
        model.intervention_memory["first"]["age"] += 1
        model.intervention_memory["second"] = {}

    model.intervention_memory = {"first": {"age": th.zeros(2)}}
    nan_weights(model, "actor.optimizer", 20)
    quiet(model, guard, When(20, remember))
    assert guard.restored == 1
    assert_same(model.intervention_memory, {"first": {"age": th.zeros(2)}, "second": {}}, "")


@pytest.mark.parametrize("where", ["critic", "critic_target"])
def test_a_critic_that_becomes_nan_is_found_by_the_step_that_it_spoils(where: str) -> None:
    model, guard = make("SAC"), GuardCallback(check_every=10**6)
    nan_weights(model, "critic.optimizer", 5, next(getattr(model, where).parameters()))
    quiet(model, guard)
    # The critic spoils the actor's step of the same update; the target both that follow, in the next
    assert counts(guard) == {"skipped_steps": 1, "restored": 1}
    assert is_finite(model)


def test_an_entropy_coefficient_that_becomes_nan_is_restored_with_the_rest() -> None:
    model, guard = make("SAC"), GuardCallback(check_every=1)
    nan_weights(model, "ent_coef_optimizer", 5)  # after this update's losses have taken the old one
    quiet(model, guard)
    assert counts(guard) == {"restored": 1}
    assert is_finite(model)


def test_an_optimizer_state_that_overflows_is_found_too() -> None:
    """Adam squares gradients: 1e25 is finite, its square is not, and the weight would stand still for good."""
    model, guard = make("TD3"), GuardCallback(check_every=1)

    def spoil(each: th.optim.Optimizer, *_: Any) -> None:
        if model._n_updates == 5:
            each.param_groups[0]["params"][0].grad.view(-1)[0] = 1e25

    model.critic.optimizer.register_step_pre_hook(spoil)
    quiet(model, guard)
    assert counts(guard) == {"restored": 1}
    assert is_finite(model)


@pytest.mark.parametrize(("name", "optimizer"), [("TD3", "actor.optimizer"), ("SAC", "critic.optimizer")])
def test_after_so_many_updates_in_a_row_that_came_to_nothing_it_gives_up(name: str, optimizer: str) -> None:
    """TD3 moves its actor at every other update only: those between do not count."""
    model, guard = make(name), GuardCallback(max_consecutive_skips=4)
    nan_gradients(model, optimizer)
    with pytest.raises(CollapseError, match="4 updates in a row came to nothing; the last: gradient of"):
        quiet(model, guard)
    assert counts(guard) == {"skipped_steps": 4}
    assert_given_back_but_for(model, 1)


def assert_given_back_but_for(model: Any, hooks: int) -> None:
    assert sum(len(each._optimizer_step_pre_hooks) for each in optimizers(model).values()) == hooks
    assert "step_wait" not in model.env.__dict__


def test_skips_that_are_not_in_a_row_do_not_end_the_run() -> None:
    model, guard = make("SAC"), GuardCallback(max_consecutive_skips=2)
    nan_gradients(model, "critic.optimizer", *range(1, 60, 2))
    quiet(model, guard)
    assert guard.skipped_steps == 30


def test_restores_in_a_row_end_it() -> None:
    model, guard = make("DQN"), GuardCallback(max_consecutive_skips=3)
    for at in (4, 5, 6):
        nan_weights(model, "policy.optimizer", at)
    with pytest.raises(CollapseError, match=r"3 updates in a row came to nothing; the last: policy\.q_net"):
        quiet(model, guard)
    assert is_finite(model)


def test_a_sensor_that_never_recovers_ends_the_run() -> None:
    model = make("DQN", nan_at=tuple(range(3, 3 * WINDOW)), length=10**6)
    model.learning_starts = 10**6
    with pytest.raises(CollapseError, match="Not one observation of env 0 was finite"):
        quiet(model, GuardCallback("repeat_last"), steps=2 * WINDOW + 10)
    assert_given_back(model)


# -- what it leaves behind ---------------------------------------------------------------------------------------------


def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("normalise", [False, True])
def test_after_a_run_that_broke_off_nothing_is_checked_twice(normalise: bool) -> None:
    model, guard = make("SAC", normalise, inf_at=(120,)), GuardCallback()
    with pytest.raises(KeyboardInterrupt):
        model.learn(STEPS, callback=[guard, When(40, interrupt)])
    assert "step_wait" in model.env.__dict__  # nobody has told the callback
    other = GuardCallback()
    nan_gradients(model, "critic.optimizer", 3)
    quiet(model, other)
    assert counts(guard) == {}
    assert counts(other) == {"skipped_steps": 1, "nonfinite_rewards": 1}
    assert_given_back_but_for(model, 1)


def test_a_callback_whose_run_broke_off_takes_nothing_of_another_away() -> None:
    model, guard, other = make("SAC"), GuardCallback(), GuardCallback()
    with pytest.raises(KeyboardInterrupt):
        model.learn(STEPS, callback=[guard, When(40, interrupt)])
    nan_gradients(model, "critic.optimizer", 5)
    quiet(model, other, guard)
    assert (guard.skipped_steps, other.skipped_steps) == (0, 1)
    assert is_finite(model)


def test_after_a_run_that_broke_off_the_next_without_the_callback_is_stock() -> None:
    model, guard = make("DQN", inf_at=(90,)), GuardCallback()
    with pytest.raises(KeyboardInterrupt):
        model.learn(STEPS, callback=[guard, When(40, interrupt)])
    nan_gradients(model, "policy.optimizer", 1)
    model.learn(STEPS)
    assert counts(guard) == {}
    assert not is_finite(model)
    assert np.isinf(model.replay_buffer.rewards).sum() == 1
    assert "step_wait" not in model.env.__dict__


def test_an_interrupt_within_a_step_of_the_env_gives_it_back_at_once() -> None:
    model = make("SAC")
    model.env.envs[0].unwrapped.step = interrupt
    with pytest.raises(KeyboardInterrupt):
        model.learn(STEPS, callback=GuardCallback())
    assert_given_back(model)


def test_the_second_learn_with_the_same_callback_goes_on_counting() -> None:
    model, guard = make("TD3", nan_at=(5, 100)), GuardCallback("repeat_last")
    quiet(model, guard, steps=64)
    quiet(model, guard, steps=64, reset_num_timesteps=False)
    assert guard.nonfinite_observations == 2
    assert_given_back(model)


def test_a_copy_or_a_pickle_of_the_env_in_mid_run_steps_by_itself() -> None:
    found: list[Any] = []
    model = make("SAC")
    copies = When(
        40,
        lambda model: found.extend(
            (copy.deepcopy(model.env), copy.deepcopy(model).env, pickle.loads(pickle.dumps(model.env)))
        ),
    )
    model.learn(STEPS, callback=[GuardCallback(), copies])
    for env in found:
        t, others = env.envs[0].unwrapped.t, model.env.envs[0].unwrapped.t
        env.step(np.zeros((1, 1), np.float32))
        assert (env.envs[0].unwrapped.t, model.env.envs[0].unwrapped.t) == (t + 1, others)


def test_a_zip_saved_in_mid_run_is_stock(tmp_path: Path) -> None:
    model = make("SAC", True)
    model.learn(STEPS, callback=[GuardCallback(), When(40, lambda model: model.save(tmp_path / "model"))])
    loaded = SAC.load(tmp_path / "model", env=model.env)
    assert "sb3_stable_ppo" not in repr(loaded.__dict__)
    loaded.learn(32)


def test_eval_callback_still_finds_the_same_wrappers() -> None:
    model, seen = make("SAC", True), []
    other = VecNormalize(VecMonitor(DummyVecEnv([lambda: Sensor(False)])), training=False)
    model.set_env(VecNormalize(VecMonitor(DummyVecEnv([lambda: Sensor(False)]))))
    evaluation = EvalCallback(other, n_eval_episodes=1, eval_freq=32, verbose=0)
    model.learn(STEPS, callback=[GuardCallback(), evaluation, When(40, lambda model: seen.append(model.env))])
    assert seen == [model.env]
    assert model.get_vec_normalize_env() is model.env
    assert np.isfinite(evaluation.last_mean_reward)
    assert other.obs_rms.count > 90  # type: ignore[union-attr]


# -- whom it serves ----------------------------------------------------------------------------------------------------


def test_under_guards_of_ones_own_it_does_nothing_and_says_so() -> None:
    model = StablePPO("MlpPolicy", "CartPole-v1", batch_size=8, **ON)
    with pytest.warns(UserWarning, match="StablePPO has guards of its own: GuardCallback does nothing"):
        model.learn(32, callback=GuardCallback())
    unguarded = StablePPO("MlpPolicy", "CartPole-v1", batch_size=8, guards=None, **ON)
    guard = GuardCallback()
    nan_gradients(unguarded, "policy.optimizer", 2)
    quiet(unguarded, guard, steps=32)
    assert guard.skipped_steps == 1


def test_a_second_one_does_nothing() -> None:
    first, second = GuardCallback("repeat_last"), GuardCallback("repeat_last")
    with pytest.warns(UserWarning, match="another GuardCallback before this one|is repeated") as found:
        make("SAC", nan_at=(5,)).learn(32, callback=[first, second])
    assert len(found) == 2
    assert (first.nonfinite_observations, second.nonfinite_observations) == (1, 0)


def test_what_it_cannot_serve_is_named() -> None:
    with pytest.raises(ValueError, match="ARS is neither"):
        ARS("LinearPolicy", "CartPole-v1", n_delta=1).learn(10, callback=GuardCallback())
    with pytest.raises(ValueError, match="GuardCallback does nothing within EveryNTimesteps"):
        make("SAC").learn(32, callback=EveryNTimesteps(16, GuardCallback()))


def test_a_model_that_is_broken_already_is_refused() -> None:
    model = make("SAC", True)
    with th.no_grad():
        next(model.critic.parameters()).fill_(th.nan)
    with pytest.raises(CollapseError, match=r"broken before its training: policy\.critic\..*Load an earlier one"):
        model.learn(32, callback=GuardCallback())
    assert_given_back(model)
    model = make("SAC", True)
    model.env.obs_rms.mean[0] = np.nan
    with pytest.raises(CollapseError, match="obs_rms of VecNormalize is not finite"):
        model.learn(32, callback=GuardCallback())
    assert_given_back(model)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"on_nonfinite_obs": "ignore"}, "Unknown on_nonfinite_obs 'ignore': choose one of raise, repeat_last"),
        ({"check_every": 0}, "check_every must be a whole number of at least 1, not 0"),
        ({"max_consecutive_skips": 1.5}, "max_consecutive_skips must be a whole number of at least 1"),
    ],
)
def test_arguments_are_checked(arguments: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        GuardCallback(**arguments)


def test_verbose_prints_each_event(capsys: pytest.CaptureFixture[str]) -> None:
    quiet(make("SAC", inf_at=(3, 4)), GuardCallback(verbose=1), steps=16)
    assert capsys.readouterr().out.count("rewards at step") == 2
