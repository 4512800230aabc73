"""What callbacks know goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    EvalCallback,
    EveryNTimesteps,
    StopTrainingOnNoModelImprovement,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize
from torch import nn

from helpers.resumed import Killer, Setup, assert_goes_on_exactly
from sb3_stable_ppo.checkpoints import RunCheckpoint, resume
from sb3_stable_ppo.checkpoints.callback_state import MISSING, _get, _known, callback_states
from sb3_stable_ppo.guards import GuardCallback
from sb3_stable_ppo.health import HealthCallback
from sb3_stable_ppo.interventions import AdamReset, ReDo, ReGraMa, ShrinkPerturb
from sb3_stable_ppo.runs.stop_on_return import StopTrainingOnReturn
from sb3_stable_ppo.snapshots import ActivationSnapshotCallback
from sb3_stable_ppo.zoo.progress import ProgressLines

pytestmark = pytest.mark.slow(seconds=1)


def env(seed: int = 3) -> Any:
    return VecNormalize(make_vec_env("CartPole-v1", n_envs=2, seed=seed))


def ppo(env: Any) -> PPO:
    policy_kwargs = {"net_arch": [8]}
    return PPO(
        "MlpPolicy", env, n_steps=32, batch_size=32, n_epochs=1, policy_kwargs=policy_kwargs, seed=1, device="cpu"
    )


class Counter(BaseCallback):
    """A user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def _on_step(self) -> bool:
        self.seen += 1
        return True

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen = state["seen"]


class Pictures(gym.Env[np.ndarray, int]):
    """Noise, for 10 steps."""

    observation_space = spaces.Box(0, 255, (36, 36, 1), np.uint8)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self.np_random.integers(0, 256, (36, 36, 1), dtype=np.uint8), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self.np_random.integers(0, 256, (36, 36, 1), dtype=np.uint8), float(action), self.steps >= 10, False, {}


def test_evaluations_go_on(tmp_path: Path) -> None:
    found: list[EvalCallback] = []

    def callbacks() -> list[BaseCallback]:
        folder = str(tmp_path / f"evaluations{len(found)}")
        after = StopTrainingOnNoModelImprovement(2, min_evals=1)
        best = StopTrainingOnRewardThreshold(1e9)
        evaluate = EvalCallback(env(9), best, after, 2, 40, folder, folder, deterministic=False, verbose=0)
        found.append(evaluate)
        return [CallbackList([EveryNTimesteps(50, Counter()), evaluate]), CheckpointCallback(50, folder)]

    assert_goes_on_exactly(Setup(env, ppo, callbacks), tmp_path, total=512, every=128, kill_at=300)
    unbroken, _, resumed = found
    assert len(unbroken.evaluations_timesteps) > 3
    for name in ("evaluations_timesteps", "evaluations_results", "best_mean_reward", "n_calls", "last_mean_reward"):
        assert getattr(resumed, name) == getattr(unbroken, name)
    assert resumed.callback.no_improvement_evals == unbroken.callback.no_improvement_evals  # type: ignore[union-attr]
    assert resumed.callback_on_new_best.n_calls == unbroken.callback_on_new_best.n_calls  # type: ignore[union-attr]
    first, last = (np.load(tmp_path / f"evaluations{number}" / "evaluations.npz") for number in (0, 2))
    assert np.array_equal(first["results"], last["results"])


def test_those_with_a_state_dict_go_on_and_so_do_two_of_a_class(tmp_path: Path) -> None:
    counters = Counter(), Counter()
    ppo(env()).learn(128, callback=[*counters, RunCheckpoint(folder=tmp_path)])
    counters[0].seen = 5
    ppo(env()).learn(128, callback=[*counters, stop := StopTrainingOnReturn(1e6), RunCheckpoint(folder=tmp_path)])
    new = Counter(), Counter(), StopTrainingOnReturn(1e6)
    resume(tmp_path, env(), list(new), total_timesteps=192)
    assert [each.seen for each in new[:2]] == [5 + 64 + 32, 2 * 64 + 32]
    assert list(new[2]._returns)[: len(stop._returns)] == list(stop._returns) or len(new[2]._returns) == 30


@pytest.mark.parametrize("state", [lambda: {"function": lambda: 0}, lambda: {}["missing"]])
def test_a_state_dict_that_cannot_be_saved_is_told_and_all_else_goes_on(state: Any, tmp_path: Path) -> None:
    class Unsaved(Counter):
        def state_dict(self) -> dict[str, Any]:
            found: dict[str, Any] = state()
            return found

    callbacks = [Unsaved(), counter := Counter(), RunCheckpoint(folder=tmp_path)]
    with pytest.warns(UserWarning, match=r"not bit for bit: the state_dict\(\) of Unsaved cannot be saved \("):
        ppo(env()).learn(128, callback=callbacks)
    again, unsaved = Counter(), Unsaved()
    with pytest.warns(UserWarning, match=r"from step 128, not bit for bit: the state_dict\(\) of Unsaved"):
        resume(tmp_path, env(), [unsaved, again], total_timesteps=192)
    assert (counter.seen, again.seen, unsaved.seen) == (64, 96, 32)


def test_other_callbacks_than_before_are_told(tmp_path: Path) -> None:
    ppo(env()).learn(64, callback=[Counter(), RunCheckpoint(folder=tmp_path)])
    with pytest.warns(UserWarning, match="differ from those of the checkpoint: Counter is missing, Killer is new"):
        resume(tmp_path, env(), Killer(), total_timesteps=128)


def test_each_attribute_that_is_kept_of_our_callbacks_is_there(tmp_path: Path) -> None:
    callbacks = [
        HealthCallback(folder=tmp_path),
        ActivationSnapshotCallback(folder=tmp_path),
        GuardCallback(),
        StopTrainingOnReturn(1e9),
        ProgressLines(str(tmp_path)),
        AdamReset(),
        ShrinkPerturb(),
        ReDo(),
        ReGraMa(),
    ]
    env = DummyVecEnv([Pictures])
    missing: list[str] = []

    class Look(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_rollout_end(self) -> None:
            found = {name: _get(callback, name) for callback in callbacks for name in _known(callback)}
            missing.extend(name for name, value in found.items() if value is MISSING)

    model = PPO("CnnPolicy", env, n_steps=32, batch_size=32, n_epochs=1, learning_rate=1e-3)
    model.learn(64, callback=[*callbacks, Look()])
    assert missing == []
    assert callback_states([*callbacks])[1] == []


@pytest.mark.parametrize("made", [ReDo, ReGraMa])
def test_what_units_are_judged_by_goes_on(made: Any, tmp_path: Path) -> None:
    def make() -> VecEnv:
        return make_vec_env("CartPole-v1", n_envs=2, seed=3)

    def model(env: VecEnv) -> PPO:
        options = {"activation_fn": nn.ReLU, "net_arch": [16, 16]}
        return PPO("MlpPolicy", env, n_steps=16, batch_size=16, n_epochs=2, seed=1, policy_kwargs=options)

    def callbacks() -> list[BaseCallback]:
        return [made(0.9, when={"every_updates": 3})]

    # the checkpoint is of step 128, after four updates; units are judged after six, by what has been seen since three
    assert_goes_on_exactly(Setup(make, model, callbacks), tmp_path, total=320, every=64, kill_at=150)


def test_pictures_of_activations_go_on(tmp_path: Path) -> None:
    def make() -> VecEnv:
        env = DummyVecEnv([Pictures])
        env.seed(3)
        return env

    def model(env: VecEnv) -> PPO:
        return PPO(
            "CnnPolicy",
            env,
            n_steps=32,
            batch_size=32,
            n_epochs=1,
            seed=1,
            policy_kwargs={"features_extractor_kwargs": {"features_dim": 8}},
        )

    def callbacks() -> list[BaseCallback]:
        return [ActivationSnapshotCallback(every=16), ShrinkPerturb(0.99, 0.01)]

    assert_goes_on_exactly(Setup(make, model, callbacks), tmp_path, total=160, every=64, kill_at=120)
    unbroken, broken = (sorted((tmp_path / name / "snapshots").glob("*.npz")) for name in ("unbroken", "broken"))
    assert [path.name for path in broken] == [path.name for path in unbroken]
    for first, last in zip(unbroken, broken, strict=True):
        with np.load(first) as one, np.load(last) as other:
            assert all(np.array_equal(one[name], other[name]) for name in one)
