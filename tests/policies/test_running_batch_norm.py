"""BatchNorm with consistent statistics: the arithmetic, when it moves, and what it leaves alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from stable_baselines3 import A2C, PPO
from torch import nn

from helpers.envs import SceneEnv, make_cartpole, make_pong
from helpers.weights import assert_same, assert_same_weights
from sb3_stable_ppo import (
    StableMlpPolicy,
    StableMultiInputPolicy,
    StablePongPolicy,
    StablePPO,
    StableRecurrentMlpPolicy,
)
from sb3_stable_ppo.policies.blocks import BlockConfig
from sb3_stable_ppo.policies.running_batch_norm import RunningBatchNorm1d, RunningBatchNorm2d
from sb3_stable_ppo.policies.running_norm import GATHERED, gathering, pool
from sb3_stable_ppo.policies.statistics import GATHER_EVERY

pytestmark = pytest.mark.slow(seconds=1)

BATCH: dict[str, Any] = {"norm": "batch"}
SMALL: dict[str, Any] = {"n_steps": 16, "batch_size": 8, "n_epochs": 2, "seed": 0}


def mlp_model(algorithm: Any = StablePPO, policy: Any = StableMlpPolicy, **options: Any) -> Any:
    return algorithm(policy, make_cartpole(), **{**SMALL, "policy_kwargs": BATCH, **options})


def moments(batches: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
    """Of all rows of all batches, shape (batches, rows, features, ...)."""
    rows = batches.flatten(0, 1)
    dims = [dim for dim in range(rows.dim()) if dim != 1]
    return rows.mean(dims), rows.var(dims, correction=0)


# -- the layer ---------------------------------------------------------------------------------------------------------


def test_pooled_moments_equal_those_of_all_rows_at_once_even_far_from_zero() -> None:
    batches = th.randn(7, 6, 3, 4, 4, generator=th.Generator().manual_seed(1)) * 3 + 1000
    mean, var = th.zeros(3), th.ones(3)
    for number, batch in enumerate(batches, start=1):
        pool(mean, var, batch, th.tensor(1 / number))
    expected_mean, expected_var = moments(batches.double())
    th.testing.assert_close(mean.double(), expected_mean, rtol=1e-6, atol=0)
    th.testing.assert_close(var.double(), expected_var, rtol=1e-3, atol=0)


@pytest.mark.parametrize(("norm_class", "shape"), [(RunningBatchNorm1d, (5, 3)), (RunningBatchNorm2d, (5, 3, 2, 2))])
def test_statistics_move_by_momentum_towards_the_moments_of_what_was_gathered(norm_class: Any, shape: Any) -> None:
    norm = norm_class(3, momentum=0.25)
    batches = th.randn(4, *shape, generator=th.Generator().manual_seed(2)) * 2 + 5
    with gathering([norm]):
        for batch in batches:
            norm(batch)
    assert norm.running_mean.tolist() == [0.0] * 3, "nothing moves while the policy acts"
    norm.train(True)
    assert bool(norm.is_due)
    norm.move()
    mean, var = moments(batches)
    th.testing.assert_close(norm.running_mean, 0.25 * mean)
    th.testing.assert_close(norm.running_var, 0.75 + 0.25 * var)
    assert all(not getattr(norm, name).any() for name in GATHERED)


def test_in_train_mode_a_minibatch_is_normalised_by_the_running_statistics_and_leaves_them_alone() -> None:
    norm = RunningBatchNorm1d(2, momentum=0.5)
    norm.running_mean.fill_(1.0)
    norm.running_var.fill_(4.0)
    norm.train(True)
    assert not norm.training
    th.testing.assert_close(norm(th.tensor([[3.0, 5.0]])), th.tensor([[1.0, 2.0]]), atol=1e-5, rtol=0)
    assert norm.running_mean.tolist() == [1.0, 1.0]
    assert int(norm.num_batches_tracked) == 0


def test_half_a_move_is_half_as_far() -> None:
    whole, half = RunningBatchNorm1d(1, momentum=0.2), RunningBatchNorm1d(1, momentum=0.2)
    for norm, scale in ((whole, 1.0), (half, 0.5)):
        norm.gather(th.tensor([[10.0]]))
        norm.train(True)
        norm.move(scale)
    assert whole.running_mean.item() == pytest.approx(2.0)
    assert half.running_mean.item() == pytest.approx(1.0)


# -- under algorithms --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "policy", "make_env"),
    [
        (PPO, StableMlpPolicy, make_cartpole),
        (PPO, StablePongPolicy, make_pong),
        (PPO, StableMultiInputPolicy, SceneEnv),
        (StablePPO, StableMlpPolicy, make_cartpole),
    ],
)
def test_the_first_ratio_of_an_update_is_one_from_the_second_update_on(
    algorithm: Any, policy: Any, make_env: Any
) -> None:
    """In the first rollout the statistics are still being learnt (calibration)."""
    model = algorithm(policy, make_env(), **SMALL, policy_kwargs=BATCH)
    model.learn(16 * model.n_envs)
    _, callback = model._setup_learn(16 * model.n_envs, None, reset_num_timesteps=False)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, 16)
    model.policy.set_training_mode(True)
    data = next(model.rollout_buffer.get())
    _, log_prob, _ = model.policy.evaluate_actions(data.observations, data.actions.long().flatten())
    assert float((log_prob - data.old_log_prob).exp().sub(1).abs().max()) < 1e-5


@pytest.mark.parametrize("algorithm", [PPO, A2C])
def test_statistics_move_once_an_update_before_the_next_rollout_acts_under_stock_algorithms(algorithm: Any) -> None:
    options = SMALL if algorithm is PPO else {"n_steps": 16, "seed": 0}
    model = algorithm(StableMlpPolicy, make_cartpole(), **options, policy_kwargs=BATCH)
    norm = model.policy.running_norms[0]
    seen: list[tuple[bool, list[float]]] = []
    forward, evaluate = model.policy.forward, model.policy.evaluate_actions

    def watched_forward(*args: Any, **kwargs: Any) -> Any:
        out = forward(*args, **kwargs)
        seen.append((True, norm.running_mean.tolist()))
        return out

    def watched_evaluate(*args: Any, **kwargs: Any) -> Any:
        seen.append((False, norm.running_mean.tolist()))
        return evaluate(*args, **kwargs)

    model.policy.forward, model.policy.evaluate_actions = watched_forward, watched_evaluate
    model.learn(4 * 32)
    means: dict[str, list[list[float]]] = {"": []}
    for _, mean in seen:
        if not means[""] or means[""][-1] != mean:
            means[""].append(mean)
    acting = [index for index, (acts, _) in enumerate(seen) if acts]
    rollouts = [acting[start : start + 16] for start in range(0, len(acting), 16)]
    first = [[seen[index][1] for index in rollout] for rollout in rollouts]
    assert all(mean == first[1][0] for mean in first[1]), "one rollout, one policy"
    assert first[1][0] == first[0][-1], "the first update only ends the calibration"
    assert first[2][0] != first[1][0]
    assert first[3][0] != first[2][0]
    during = [seen[index][1] for index in range(rollouts[2][-1], rollouts[3][0])]
    assert all(mean == first[2][0] for mean in during), "rollout and update are one policy"


def test_a_move_is_towards_the_moments_of_every_fourth_step_of_the_rollout() -> None:
    model = mlp_model(PPO, n_steps=16)
    policy = model.policy
    model.learn(32)
    norm = policy.mlp_extractor.policy_net.norm1
    before, inputs = norm.running_mean.clone(), []
    hook = norm.register_forward_pre_hook(lambda _, args: inputs.append(args[0].clone()))
    _, callback = model._setup_learn(32, None, reset_num_timesteps=False)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, 16)
    hook.remove()
    model.train()
    policy.set_training_mode(False)
    gathered = th.cat(inputs[:16][::GATHER_EVERY])
    assert len(gathered) == 16 // GATHER_EVERY * 2
    th.testing.assert_close(norm.running_mean, before + 0.05 * (gathered.mean(0) - before))


def test_with_and_without_guards_the_weights_and_statistics_are_the_same_bit_for_bit() -> None:
    guarded, stock = mlp_model(StablePPO).learn(5 * 32), mlp_model(PPO).learn(5 * 32)
    stock.policy.set_training_mode(False)  # StablePPO has moved the statistics at the end of train()
    assert_same_weights(guarded, stock)


def test_looking_at_a_policy_gathers_nothing_and_moves_nothing_that_is_not_due() -> None:
    model = mlp_model()
    model.learn(64)
    before = {name: tensor.clone() for name, tensor in model.policy.state_dict().items()}
    rows = np.zeros((4, 4), np.float32)
    for _ in range(GATHER_EVERY + 1):
        model.predict(rows)
        model.policy.evaluate_actions(th.zeros(4, 4), th.zeros(4))
        model.policy(th.zeros(4, 4))
        with th.no_grad():
            model.policy(th.zeros(4, 4), deterministic=True)
    assert_same(model.policy.state_dict(), before, "policy")


def test_an_evaluation_in_the_middle_of_a_rollout_changes_nothing() -> None:
    from stable_baselines3.common.callbacks import EvalCallback

    evaluation = EvalCallback(make_cartpole(1, seed=9), eval_freq=5, n_eval_episodes=1, verbose=0)
    watched = mlp_model().learn(6 * 32, callback=evaluation)
    alone = mlp_model().learn(6 * 32)
    assert_same_weights(watched, alone)


@pytest.mark.parametrize("algorithm", [PPO, StablePPO])
def test_a_run_that_is_saved_and_goes_on_ends_in_the_weights_of_one_that_did_not_stop(
    algorithm: Any, tmp_path: Path
) -> None:
    """The envs' state is not SB3's to save, so both runs reset theirs where the first stops."""
    whole = mlp_model(algorithm).learn(3 * 32)
    whole.save(tmp_path / "model")
    stopped = algorithm.load(tmp_path / "model")
    for model in (whole, stopped):
        model.set_env(make_cartpole(seed=5))
        model.set_random_seed(7)
        model.learn(3 * 32, reset_num_timesteps=False)
    assert_same_weights(whole, stopped)


def test_gathering_draws_no_random_number() -> None:
    norm = RunningBatchNorm1d(2, 0.1)
    before = th.get_rng_state()
    with gathering([norm]):
        norm(th.ones(2, 2))
    assert th.equal(th.get_rng_state(), before)
    assert not norm._forward_pre_hooks


def test_a_minibatch_of_one_sample_trains() -> None:
    model = mlp_model(PPO, n_steps=17, batch_size=3)  # 34 rows: the last minibatch has one
    with pytest.warns(UserWarning, match="truncated mini-batch"):
        model = mlp_model(StablePPO, n_steps=17, batch_size=3)
    model.learn(68)
    assert all(bool(th.isfinite(parameter).all()) for parameter in model.policy.parameters())


def test_the_padding_of_recurrent_minibatches_is_not_among_the_statistics() -> None:
    model = RecurrentPPO(StableRecurrentMlpPolicy, make_cartpole(), **SMALL, policy_kwargs=BATCH)
    model.learn(5 * 32)
    norm = model.policy.running_norms[0]
    model.policy.set_training_mode(True)
    before = norm.gathered_batches.clone()
    for data in model.rollout_buffer.get(8):
        model.policy.evaluate_actions(data.observations, data.actions.flatten(), data.lstm_states, data.episode_starts)
    assert th.equal(norm.gathered_batches, before)


def test_a_policy_saved_by_itself_keeps_how_its_statistics_move(tmp_path: Path) -> None:
    for statistics in ("running", "batch"):
        options = {**BATCH, "norm_statistics": statistics, "norm_momentum": 0.02}
        policy = mlp_model(policy_kwargs=options).learn(64).policy
        policy.save(str(tmp_path / "policy.pth"))
        loaded = StableMlpPolicy.load(str(tmp_path / "policy.pth"))
        assert loaded.block_config == policy.block_config
        assert_same(loaded.state_dict(), policy.state_dict(), "policy")


def test_a_state_without_any_norm_leaves_how_statistics_move_as_it_is() -> None:
    policy = mlp_model().policy
    some = {name: tensor for name, tensor in policy.state_dict().items() if name.startswith("action_net")}
    policy.load_state_dict(some, strict=False)
    assert policy.block_config.norm_statistics == "running"
    assert len(policy.running_norms) == 4


# -- the words ---------------------------------------------------------------------------------------------------------


def test_running_is_the_default_of_policies_and_torchs_way_that_of_a_block_by_itself() -> None:
    """Nobody would move the statistics of a StableCNN in a policy that is not ours."""
    policy = mlp_model().policy
    assert policy.block_config.norm_statistics == "running"
    assert policy.running_norms[0].momentum == 0.05
    assert BlockConfig("batch").norm_statistics == "batch"
    block = BlockConfig("batch").block(nn.Linear(2, 3))
    assert type(block["norm"]) is nn.BatchNorm1d
    assert block["norm"].momentum == 0.1


def test_batch_builds_torchs_own_batchnorm() -> None:
    policy = mlp_model(policy_kwargs={**BATCH, "norm_statistics": "batch"}).policy
    assert {type(module) for name, module in policy.named_modules() if "norm" in name} == {nn.BatchNorm1d}
    assert policy.running_norms == ()


def test_an_unknown_word_is_told_with_the_choices() -> None:
    with pytest.raises(ValueError, match="Unknown norm_statistics 'frozen': choose one of running, batch"):
        StableMlpPolicy(spaces.Box(-1, 1, (4,)), spaces.Discrete(2), lambda _: 1e-4, norm_statistics="frozen")
