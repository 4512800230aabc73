"""Two runs of one seed: that healthy ones agree, and that each kind of difference is found where it is."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from sb3_contrib import ARS, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import DummyVecEnv

import sb3_stable_ppo
from helpers.masked_env import StrictEnv
from helpers.weights import assert_same_weights
from sb3_stable_ppo import StablePPO, UsageError, check_determinism
from sb3_stable_ppo.determinism import RunRecorder
from sb3_stable_ppo.envs.action_masks import InfoActionMasks
from sb3_stable_ppo.health import HealthCallback

pytestmark = pytest.mark.slow(seconds=1)

SMALL: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 2, "device": "cpu"}
OFF: dict[str, Any] = {"buffer_size": 100, "learning_starts": 10, "batch_size": 8, "seed": 1, "device": "cpu"}


def small() -> dict[str, Any]:
    """Anew each time: SB3 adds keys."""
    return {"net_arch": [8]}


def ppo(env: Any = None, **options: Any) -> PPO:
    vec_env = make_vec_env("CartPole-v1", n_envs=3) if env is None else env
    return PPO("MlpPolicy", vec_env, policy_kwargs=small(), **{"seed": 1, **SMALL, **options})


MODELS: dict[str, Callable[[], Any]] = {
    "PPO": ppo,
    "A2C": lambda: A2C("MlpPolicy", "CartPole-v1", seed=1, policy_kwargs=small(), device="cpu"),
    "StablePPO": lambda: StablePPO("StableMlpPolicy", "CartPole-v1", seed=1, policy_kwargs=small(), **SMALL),
    "MaskablePPO": lambda: MaskablePPO(
        "MlpPolicy", InfoActionMasks(StrictEnv()), seed=1, policy_kwargs=small(), **SMALL
    ),
    "RecurrentPPO": lambda: RecurrentPPO("MlpLstmPolicy", "CartPole-v1", seed=1, **SMALL),
    "DQN": lambda: DQN("MlpPolicy", "CartPole-v1", policy_kwargs=small(), **OFF),
    "SAC": lambda: SAC("MlpPolicy", "Pendulum-v1", policy_kwargs=small(), **OFF),
    "PPO, with gSDE": lambda: PPO("MlpPolicy", "Pendulum-v1", seed=1, use_sde=True, policy_kwargs=small(), **SMALL),
    "PPO, with callbacks": lambda: (ppo(), [HealthCallback(), lambda *_: True]),
}


@pytest.mark.filterwarnings("ignore:HealthCallback has no folder")
@pytest.mark.parametrize("name", MODELS)
def test_a_seeded_run_agrees_with_itself_in_all_that_was_recorded(name: str) -> None:
    found = check_determinism(MODELS[name], n_updates=2)
    assert found.is_deterministic, found
    assert (found.first, found.n_updates, found.hints) == (None, 2, ())
    assert found.n_compared > 50
    assert found.sentence.startswith("No difference: two runs of 2 updates with the same seed agree in all ")


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("PPO", {"value", "action", "log-prob", "reward", "done", "observation", "random numbers"}),
        (
            "MaskablePPO",
            {"action mask", "value", "action", "log-prob", "reward", "done", "observation", "random numbers"},
        ),
        ("SAC", {"action", "reward", "done", "observation", "random numbers"}),
    ],
)
def test_all_that_a_step_computes_is_recorded(name: str, kinds: set[str]) -> None:
    """The canary: ``collect_rollouts`` has its local variables by the names that the recorder knows."""
    recorder = RunRecorder(2)
    MODELS[name]().learn(10_000, callback=recorder)
    events = recorder.record.events
    assert {each.kind for each in events if each.phase == "rollout"} == kinds
    assert {each.kind for each in events if each.phase == "update"} == {"gradient", "weight", "random numbers"}
    weights = {each.name for each in events if each.kind == "weight" and each.step >= 0 and each.phase == "update"}
    gradients = {each.name for each in events if each.kind == "gradient"}
    assert weights == gradients  # each tensor that an optimizer moves has a gradient, SAC's coefficient too
    assert ("log_ent_coef" in weights) == (name == "SAC")


class Jittery(gym.Wrapper[Any, Any, Any, Any]):
    """One result differs in each run, from a step on."""

    def __init__(self, env: Any, what: str, at: int) -> None:
        super().__init__(env)
        self.what, self.at, self.steps = what, at, 0

    def reset(self, **options: Any) -> Any:
        observation, info = self.env.reset(**options)
        return self._changed(observation, "observation"), info

    def step(self, action: Any) -> Any:
        self.steps += 1
        observation, reward, *rest = self.env.step(action)
        return self._changed(observation, "observation"), self._changed(reward, "reward"), *rest

    def _changed(self, value: Any, what: str) -> Any:
        is_now = what == self.what and self.steps >= self.at
        return value + np.random.default_rng().normal() if is_now else value


def jittery(what: str, at: int) -> PPO:
    plain = [lambda: gym.make("CartPole-v1")] * 2
    return ppo(DummyVecEnv([*plain, lambda: Jittery(gym.make("CartPole-v1"), what, at)]))


def test_an_env_whose_reset_ignores_the_seed_is_found_before_the_first_step() -> None:
    found = check_determinism(lambda: jittery("observation", 0), n_updates=1)
    assert found.first is not None
    assert (found.first.kind, found.first.phase, found.first.envs, found.first.n_envs) == (
        "observation",
        "start",
        (2,),
        3,
    )
    assert str(found.first).startswith("the observation before the first step, in env 2, by ")
    assert "draws from a generator that this seed does not reach" in found.hints[0]
    assert "value" in {each.kind for each in found.differences[1:]}


@pytest.mark.parametrize("what", ["observation", "reward"])
def test_a_step_whose_result_is_not_that_of_its_action_is_named_with_its_env(what: str) -> None:
    found = check_determinism(lambda: jittery(what, 6), n_updates=1)
    assert found.first is not None
    assert (found.first.kind, found.first.phase, found.first.update) == (what, "rollout", 0)
    assert (found.first.step, found.first.envs) == (5, (2,))  # steps count from 0
    assert f"The first difference: the {what} at step 5 of rollout 0, in env 2, by " in found.sentence
    assert "All actions before it are the same: an env or a wrapper in DummyVecEnv" in found.hints[0]


class Meddler(BaseCallback):
    """Does something at the start of a rollout, that is, after an update."""

    budget = 0.01

    def __init__(self, act: Callable[[PPO], object], at: int = 1) -> None:
        super().__init__()
        self.act, self.at, self.rollouts = act, at, 0

    def _on_rollout_start(self) -> None:
        if self.rollouts == self.at:
            self.act(self.model)  # type: ignore[arg-type]
        self.rollouts += 1

    def _on_step(self) -> bool:
        return True


def unseeded() -> float:
    return np.random.default_rng().uniform(0.5, 1.0)


def test_a_generator_that_is_drawn_from_another_number_of_times_is_named() -> None:
    def draw(_: Any) -> None:
        for _ in range(int(time.perf_counter_ns() // 100 % 1000) + 1):
            np.random.rand()  # noqa: NPY002

    found = check_determinism(lambda: (ppo(), Meddler(draw)), n_updates=2)
    assert found.first is not None
    assert (found.first.kind, found.first.name) == ("random numbers", "NumPy's global generator")
    assert (found.first.phase, found.first.update, found.first.step) == ("rollout", 1, 0)
    assert any("has been drawn from another number of times" in hint for hint in found.hints)
    assert any("Meddler(budget=0.01)" in hint for hint in found.hints)


def test_weights_that_something_else_than_the_optimizer_changes_are_told_apart() -> None:
    def shrink(model: PPO) -> None:
        model.policy.value_net.weight.data.mul_(unseeded())

    class Shrinking(PPO):
        def train(self) -> None:
            super().train()
            shrink(self)

    def make() -> Any:
        model = Shrinking("MlpPolicy", make_vec_env("CartPole-v1"), policy_kwargs=small(), seed=1, **SMALL)
        return model, Meddler(lambda _: None)

    found = check_determinism(make, n_updates=1)
    assert found.first is not None
    assert (found.first.kind, found.first.name) == ("weight", "value_net.weight")
    assert found.first.where == "after update 0"
    assert "The weights were the same after the optimizer's last step" in found.hints[0]
    assert "Meddler(budget=0.01)" in found.hints[1]


def test_a_gradient_that_differs_is_named_with_its_step() -> None:
    def listen(model: PPO) -> None:
        model.policy.action_net.bias.register_hook(lambda gradient: gradient * unseeded())

    found = check_determinism(lambda: (ppo(), Meddler(listen)), n_updates=2)
    assert found.first is not None
    assert (found.first.kind, found.first.name) == ("gradient", "action_net.bias")
    assert found.first.where == "at the optimizer's step 0 of update 1"
    assert "differs by more than rounding" in found.hints[0]


def test_rounding_is_told_from_other_numbers_and_threads_are_named_where_there_are_several() -> None:
    def jitter(model: PPO) -> None:
        model.policy.action_net.bias.register_hook(lambda gradient: gradient * (1 + 1e-6 * unseeded()))

    th.set_num_threads(2)
    try:
        found = check_determinism(lambda: (ppo(), Meddler(jitter)), n_updates=2)
    finally:
        th.set_num_threads(1)
    assert found.first is not None
    assert found.first.is_rounding
    assert "depends on how 2 threads of torch share it" in found.hints[0]
    assert check_determinism(lambda: (ppo(), Meddler(jitter)), n_updates=2).hints == ()


def test_a_model_without_a_seed_is_told_so() -> None:
    found = check_determinism(lambda: ppo(seed=None), n_updates=1)
    assert found.first is not None
    assert (found.first.kind, found.first.phase) == ("random numbers", "start")
    assert found.hints[0].startswith("The model has no seed")


def test_a_run_that_takes_another_course_is_told_so() -> None:
    epochs = iter([2, 1])

    def make() -> Any:
        n_epochs = next(epochs)
        return ppo(), Meddler(lambda model: setattr(model, "n_epochs", n_epochs))

    found = check_determinism(make, n_updates=2)
    assert found.first is not None
    assert found.first.kind == "course"
    assert found.first.update == 1


def test_the_recorder_changes_no_training_and_leaves_no_hook() -> None:
    stock = ppo().learn(96)
    model = ppo()
    recorder = RunRecorder(2)
    recorded = model.learn(10_000, callback=recorder)
    assert recorded.num_timesteps == 2 * 48 + 3  # it ends in the step after the updates
    assert_same_weights(stock, recorded)
    optimizer = recorded.policy.optimizer
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_the_callers_random_numbers_are_as_before() -> None:
    random.seed(5), np.random.seed(5), th.manual_seed(5)  # noqa: NPY002
    expected = random.getstate(), np.random.get_state()[1].tolist(), th.get_rng_state().tolist()  # noqa: NPY002
    check_determinism(ppo, n_updates=1)
    found = random.getstate(), np.random.get_state()[1].tolist(), th.get_rng_state().tolist()  # noqa: NPY002
    assert found == expected


def test_what_cannot_be_checked_is_refused() -> None:
    with pytest.raises(UsageError, match="follows the steps of an optimizer, and ARS has none"):
        check_determinism(lambda: ARS("MlpPolicy", "CartPole-v1", n_delta=1, seed=1), n_updates=1)
    with pytest.raises(UsageError, match="ended before its first update"):
        check_determinism(lambda: DQN("MlpPolicy", "CartPole-v1", seed=1), n_updates=1, total_timesteps=50)
    with pytest.raises(ValueError, match="n_updates must be a whole number of at least 1"):
        check_determinism(ppo, n_updates=0)


def test_it_is_exported_and_a_logger_is_no_matter(tmp_path: Any) -> None:
    def make() -> PPO:
        model = ppo()
        model.set_logger(configure(str(tmp_path), ["csv"]))
        return model

    assert sb3_stable_ppo.check_determinism is check_determinism
    assert check_determinism(make, n_updates=1).is_deterministic


def test_what_seeds_a_generator_anew_before_the_first_step_is_told() -> None:
    def make() -> Any:
        model = ppo()
        np.random.seed()  # noqa: NPY002
        return model

    found = check_determinism(make, n_updates=1)
    assert found.first is not None
    assert (found.first.name, found.first.phase) == ("NumPy's global generator", "start")
    assert found.hints[0].startswith(
        "SB3 has seeded NumPy's global generator with 1, and something has drawn from it, or"
    )
