"""Adam's step count and moments, reset."""

import re
from typing import Any

import pytest
import torch as th
from stable_baselines3 import A2C, DQN, PPO

from helpers.interventions import MODELS, OFF, ON, net
from sb3_stable_ppo import AdamReset
from sb3_stable_ppo.interventions.adam_reset import mean_step_multiplier
from sb3_stable_ppo.interventions.base import Intervention

pytestmark = pytest.mark.filterwarnings("ignore:AdamReset sets Adam's step count")


class Counts(Intervention):
    """Adam's step count and whether its moments are 0, at each rollout's start."""

    def begin(self) -> None:
        self.seen: list[tuple[int, bool]] = []

    def after_update(self) -> None:
        states = list(self.learners[0].optimizer.state.values())
        self.seen.append((int(states[0]["step"]), all(not state["exp_avg"].any() for state in states)))

    def act(self) -> None:
        pass


@pytest.mark.parametrize(("reset", "cleared"), [("relative", False), ("full", True)])
def test_each_update_begins_at_step_0_and_the_moments_stay_or_go(reset: str, cleared: bool) -> None:
    class After(Intervention):
        def act(self) -> None:
            states = list(self.learners[0].optimizer.state.values())
            seen.append(({int(state["step"]) for state in states}, all(not state["exp_avg"].any() for state in states)))

    seen: list[Any] = []
    counts = Counts(when={"every_updates": 1})
    MODELS["PPO"]().learn(32 * 4, callback=[counts, AdamReset(reset), After(when={"every_updates": 1})])
    assert [count for count, _ in counts.seen] == [4, 4, 4, 4]  # 2 epochs of 2 minibatches each time
    assert seen == [({0}, cleared)] * 3


def test_dqn_resets_when_the_target_network_is_copied() -> None:
    model, counts = MODELS["DQN"](), Counts(when={"every_updates": 1})
    model.learn(80, callback=[counts, AdamReset()])
    steps = [count for count, _ in counts.seen]
    # a copy every 20 steps, an update every 4 from step 20 on
    assert max(steps) <= 6
    assert steps.count(1) == 4


def test_the_first_step_on_a_new_target_is_the_first_of_adam() -> None:
    class Steps(Intervention):
        """Adam's count behind each step, and the target's copies so far."""

        def begin(self) -> None:
            self.seen: list[tuple[int, int]] = []

        def after_step(self, learner: Any) -> None:
            count = next(iter(learner.optimizer.state.values()))["step"]
            self.seen.append((self.num_timesteps // 20, int(count)))

    model, steps = MODELS["DQN"](), Steps()
    model.learn(80, callback=[AdamReset(), steps])
    firsts = dict(reversed(steps.seen))
    assert firsts == {1: 1, 2: 1, 3: 1, 4: 1}


def test_where_updates_come_after_episodes_nobody_knows_the_steps_between_two_resets(
    recwarn: pytest.WarningsRecorder,
) -> None:
    model = DQN("MlpPolicy", "CartPole-v1", train_freq=(1, "episode"), target_update_interval=50, **OFF, **net())
    model.learn(60, callback=[AdamReset()])
    assert not [warning for warning in recwarn if "step count to 0" in str(warning.message)]


def test_the_multiplier_of_seldom_resets_is_nearly_1() -> None:
    assert 0.999 < mean_step_multiplier(10**9, (0.9, 0.999)) < 1


def test_the_multiplier_is_that_of_adams_own_steps() -> None:
    weight = th.nn.Parameter(th.zeros(1))
    adam = th.optim.Adam([weight], lr=1.0, eps=0.0)
    for _ in range(20_000):
        weight.grad = th.ones(1)
        adam.step()
    adam.state[weight]["step"].zero_()
    before = float(weight.detach())
    for _ in range(16):
        weight.grad = th.ones(1)
        adam.step()
    assert (before - float(weight.detach())) / 16 == pytest.approx(mean_step_multiplier(16, (0.9, 0.999)), rel=5e-3)


def test_the_warning_states_the_runs_own_multiplier() -> None:
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=64, batch_size=16, n_epochs=4, seed=0, **net())
    with pytest.warns(
        UserWarning, match=re.escape("to 0 every 16 steps, which makes the mean step 0.18 of the learning")
    ):
        model.learn(64, callback=[AdamReset()])


def test_what_cannot_be_reset_is_one_clear_error() -> None:
    with pytest.raises(ValueError, match=r"AdamReset resets Adam and AdamW; A2C here trains with RMSprop. Choose"):
        MODELS["A2C"]().learn(32, callback=[AdamReset()])
    with pytest.raises(ValueError, match=r"a target network, and SAC moves its own a little at each step. Say when"):
        MODELS["SAC"]().learn(32, callback=[AdamReset()])
    with pytest.raises(ValueError, match="Unknown reset 'half': choose one of relative, full"):
        AdamReset("half")


def test_a2c_with_adam_and_sac_with_a_trigger_are_served() -> None:
    A2C("MlpPolicy", "CartPole-v1", use_rms_prop=False, **ON, **net()).learn(96, callback=[AdamReset()])
    counts = Counts(when={"every_updates": 1})
    MODELS["SAC"]().learn(16 + 25, callback=[counts, AdamReset(when={"every_updates": 10})])
    assert max(count for count, _ in counts.seen) == 10
