"""GuardCallback mends observations and rewards before a buffer or a normaliser gets them."""

import numpy as np
import pytest
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

from helpers.guard_callback import ALGORITHMS, STEPS, Sensor, assert_given_back, counts, is_finite, make, quiet
from helpers.interventions import OFF, net
from sb3_stable_ppo import CollapseError
from sb3_stable_ppo.guards.callback import GuardCallback

pytestmark = pytest.mark.slow(seconds=1)


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


class Stops(BaseCallback):
    """As Ctrl-C."""

    def _on_step(self) -> bool:
        if self.n_calls == 20:
            raise KeyboardInterrupt
        return True


@pytest.mark.parametrize("normalise", [False, True])
def test_a_run_that_broke_off_leaves_another_model_in_its_env_unguarded(normalise: bool) -> None:
    model = make("SAC", normalise, inf_at=(20 + STEPS,))
    with pytest.raises(KeyboardInterrupt):
        model.learn(STEPS, callback=[GuardCallback(), Stops()])
    other = SAC("MlpPolicy", model.env, **OFF, **net()).learn(STEPS)
    assert np.isinf(other.replay_buffer.rewards).sum() == 1  # type: ignore[union-attr]
    assert_given_back(other)


def test_an_evaluation_in_the_training_env_is_part_of_the_run() -> None:
    model = make("SAC", inf_at=(90,))
    guard = GuardCallback()
    quiet(model, guard, EvalCallback(model.env, eval_freq=20, n_eval_episodes=2, verbose=0))
    assert guard.nonfinite_rewards == 1
    assert_given_back(model)
