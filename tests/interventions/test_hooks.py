"""What hangs on a policy or a buffer during an update stays behind when they are copied, pickled or saved."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback

from helpers.interventions import INTERVENTIONS, MODELS
from helpers.weights import assert_same, assert_same_weights

pytestmark = pytest.mark.slow(seconds=1)

HOOKED = ("ChurnReduction", "ReGraMa", "ContinualBackprop", "FeatureRegularization")
CASES = [
    *[(algorithm, name) for algorithm in ("PPO", "StablePPO", "MaskablePPO") for name in HOOKED],
    *[(algorithm, name) for algorithm in ("DQN", "SAC") for name in HOOKED[:-1]],
]


def output_of(policy: Any, model: Any) -> th.Tensor:
    """Of the network whose output carries riders, at the latest observation."""
    observations = policy.obs_to_tensor(model._last_obs)[0]
    actions = th.zeros(len(observations), *model.action_space.shape)
    if hasattr(policy, "evaluate_actions"):
        return policy.evaluate_actions(observations, actions)[0]  # type: ignore[no-any-return]
    return policy.critic(observations, actions)[0] if hasattr(policy, "critic") else policy.q_net(observations)  # type: ignore[no-any-return]


class Copies(BaseCallback):
    """Copies the policy before each update, and learns with the copies."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.copied = folder, 0

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        model: Any = self.model
        if self.num_timesteps % 32:
            return
        for each in (copy.deepcopy(model.policy), pickle.loads(pickle.dumps(model.policy))):
            assert_same(each.state_dict(), model.policy.state_dict(), "")
            each.set_training_mode(True)
            output_of(each, model).sum().backward()
            self.copied += 1
        model.save(self.folder / "model.zip")


@pytest.mark.parametrize(("algorithm", "name"), CASES)
def test_a_policy_is_copied_and_pickled_before_an_update_and_the_copy_has_no_part_in_it(
    algorithm: str, name: str, tmp_path: Path
) -> None:
    whole = MODELS[algorithm]().learn(64, callback=[INTERVENTIONS[name]()])
    model = MODELS[algorithm]().learn(64, callback=[INTERVENTIONS[name](), copies := Copies(tmp_path)])
    assert copies.copied == 4
    assert_same_weights(model, whole)
    kept = type(model).load(tmp_path / "model.zip")
    assert kept.num_timesteps > 0
    assert set(kept.intervention_memory) == {name}  # type: ignore[attr-defined]


@pytest.mark.parametrize("way", [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_a_copied_rollout_buffer_draws_its_own_rows(way: Any) -> None:
    class Looks(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_rollout_end(self) -> None:
            own = way(self.model.rollout_buffer)  # type: ignore[attr-defined]
            own.rewards[:] = own.values[:] = 7.0
            seen.extend(batch.old_values for batch in own.get(16))

    seen: list[th.Tensor] = []
    MODELS["PPO"]().learn(64, callback=[INTERVENTIONS["FeatureRegularization"](), Looks()])
    assert len(seen) == 4
    assert all(bool((values == 7.0).all()) for values in seen)
