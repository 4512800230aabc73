"""GuardCallback skips steps on broken gradients, restores broken weights, and gives up after so many in a row."""

import copy
from typing import Any

import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback

from helpers.guard_callback import (
    ALGORITHMS,
    FIRST,
    STEPS,
    When,
    assert_given_back,
    assert_given_back_but_for,
    counts,
    is_finite,
    make,
    nan_gradients,
    nan_weights,
    quiet,
)
from helpers.interventions import OFF
from helpers.weights import assert_same
from sb3_stable_ppo import CollapseError
from sb3_stable_ppo.guards.callback import GuardCallback
from sb3_stable_ppo.guards.checked_step import WINDOW

pytestmark = pytest.mark.slow(seconds=1)


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
