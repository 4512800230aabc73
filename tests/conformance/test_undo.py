"""Each algorithm undoes an update that breaks its network, and ends a run that comes to nothing."""

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.conformance import ALL, build, is_finite
from helpers.guarded import Logged
from helpers.weights import assert_same, assert_same_weights
from sb3_stable_ppo import (
    CollapseError,
    StepLR,
)
from sb3_stable_ppo.schedules.learning_rate import counting_schedule


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
def test_weights_that_are_finite_and_too_large_for_finite_outputs_are_undone(algorithm: Any) -> None:
    model = build(algorithm, learning_rate=1e19, n_epochs=1, batch_size=32, policy_kwargs={"norm": "none"})
    with pytest.warns(UserWarning, match="undone: the weights are finite, and what the policy puts out is not"):
        model.learn(32)
    fresh = build(algorithm, policy_kwargs={"norm": "none"})
    assert_same(model.policy.state_dict(), fresh.policy.state_dict(), "policy")
    assert model.policy.optimizer.state == {}
    assert (model._undone_updates, model._dropped_updates) == (4, 1)


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
