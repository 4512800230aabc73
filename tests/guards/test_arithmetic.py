"""The guards' pure functions and the undo's parts, by hand-computed cases and invariants."""

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from hypothesis import given, strategies as st
from stable_baselines3 import PPO

from helpers.envs import make_cartpole
from sb3_stable_ppo import GuardConfig
from sb3_stable_ppo.common.tensors import all_finite, copied, first_nonfinite
from sb3_stable_ppo.guards.arithmetic import guard_log_prob, lost_unit_fraction, next_scale, reward_scale
from sb3_stable_ppo.guards.backup import Backup
from sb3_stable_ppo.guards.reading import draw_probe_batch, dump_minibatch
from sb3_stable_ppo.metrics.kl import approx_kl, mean_kl

Categorical, Normal = th.distributions.Categorical, th.distributions.Normal


def test_straight_through_bounds_the_value_and_keeps_the_gradient() -> None:
    log_prob = th.tensor([30.0, -30.0, 1.0, math.nan]).requires_grad_()
    guarded = guard_log_prob(log_prob[:3], th.zeros(3), GuardConfig(straight_through=True))
    assert guarded.log_prob.tolist() == [20.0, -20.0, 1.0]
    assert guarded.clamped == 2
    guarded.log_prob.sum().backward()
    assert log_prob.grad is not None
    assert log_prob.grad.tolist() == [1.0, 1.0, 1.0, 0.0]


def test_straight_through_gives_no_gradient_to_rows_that_are_not_finite() -> None:
    log_prob = th.tensor([math.inf, 0.0]).requires_grad_()
    guard_log_prob(log_prob, th.zeros(2), GuardConfig(straight_through=True)).log_prob.sum().backward()
    assert log_prob.grad is not None
    assert log_prob.grad.tolist() == [0.0, 1.0]


def test_approx_kl_is_sb3s_and_stays_finite() -> None:
    log_ratio = th.randn(64, generator=th.Generator().manual_seed(0))
    assert th.equal(approx_kl(log_ratio), th.mean((th.exp(log_ratio) - 1) - log_ratio))
    assert bool(th.isfinite(approx_kl(th.tensor([1e4]))))


def test_mean_kl_by_hand() -> None:
    old, new = Categorical(probs=th.tensor([[0.5, 0.5], [1.0, 0.0]])), Categorical(probs=th.tensor([[0.25, 0.75]] * 2))
    by_hand = (0.5 * math.log(2) + 0.5 * math.log(2 / 3) + math.log(4)) / 2
    assert mean_kl([old], [new]) == pytest.approx(by_hand)
    assert mean_kl([old], [new], th.tensor([False, True])) == pytest.approx(math.log(4))


def test_mean_kl_adds_the_parts_and_dimensions_of_an_action() -> None:
    old, new = Normal(th.zeros(5, 2), 1.0), Normal(th.ones(5, 2), 1.0)
    assert mean_kl([old], [new]) == pytest.approx(2 * 0.5)
    parts = [Categorical(probs=th.tensor([[0.5, 0.5]]))] * 2
    changed = [Categorical(probs=th.tensor([[0.25, 0.75]]))] * 2
    assert mean_kl(parts, changed) == pytest.approx(2 * mean_kl(parts[:1], changed[:1]))


@given(logits=st.lists(st.floats(-20, 20), min_size=2, max_size=6), moved=st.floats(-5, 5))
def test_kl_is_never_negative_and_zero_to_itself(logits: list[float], moved: float) -> None:
    old = Categorical(logits=th.tensor([logits], dtype=th.float64))
    new = Categorical(logits=th.tensor([[logits[0] + moved, *logits[1:]]], dtype=th.float64))
    assert mean_kl([old], [old]) == 0.0
    assert mean_kl([old], [new]) >= -1e-9


def test_unit_loss_names_the_first_layer_with_the_largest_loss() -> None:
    before = {"conv1": th.ones(10), "conv2": th.ones(10), "fc1": th.ones(10)}
    dark = th.tensor([0.0] * 5 + [1.0] * 5)
    assert lost_unit_fraction(before, {"conv1": th.ones(10), "conv2": dark, "fc1": dark}) == (0.5, "conv2")


def test_unit_loss_counts_only_units_that_were_live_in_layers_that_had_eight() -> None:
    few = th.tensor([1.0] * 7 + [0.0] * 20)
    assert lost_unit_fraction({"fc1": few}, {"fc1": th.zeros(27)}) == (0.0, "")
    enough = th.tensor([1.0] * 8 + [0.0] * 20)
    assert lost_unit_fraction({"fc1": enough}, {"fc1": th.zeros(28)}) == (1.0, "fc1")


def test_a_unit_that_is_not_a_number_is_lost() -> None:
    assert lost_unit_fraction({"fc1": th.ones(8)}, {"fc1": th.full((8,), math.nan)}) == (1.0, "fc1")


@given(scale=st.floats(1e-6, 1.0), kl=st.floats(0, 10))
def test_the_scale_never_exceeds_one_and_moves_gently(scale: float, kl: float) -> None:
    moved = next_scale(scale, kl)
    assert 0 < moved <= 1.0
    assert scale / 1.31 <= moved <= scale * 1.31


def test_the_reward_scale_is_the_largest_reward_up_to_one_but_not_that_of_an_episodes_last_step() -> None:
    starts = np.array([[1, 1], [0, 0], [0, 1]])
    assert reward_scale(np.array([[1e-3, 0.0], [-2e-3, 0.5], [0.7, 0.7]]), starts) == 2e-3
    assert reward_scale(np.array([[30.0, 0.0], [0.0, 0.0], [0.0, 0.0]]), starts) == 1.0
    assert reward_scale(np.zeros((3, 2)), starts) == 1.0
    assert reward_scale(np.array([[0.5]]), np.array([[1]])) == 1.0


def test_the_scale_recovers_below_and_shrinks_above_the_band() -> None:
    assert [next_scale(0.5, kl) for kl in (0.005, 0.02, 0.05)] == pytest.approx([0.65, 0.5, 0.5 / 1.3])
    assert next_scale(0.9, 0.0) == 1.0


def test_a_backup_can_be_restored_more_than_once_and_knows_an_empty_state() -> None:
    model = PPO("MlpPolicy", make_cartpole(), n_steps=8, batch_size=8, n_epochs=2, seed=0)
    for trained in (False, True):
        if trained:
            model.learn(16)
        backup = Backup(model.policy, {})
        weights = {name: tensor.clone() for name, tensor in model.policy.state_dict().items()}
        moments = copy.deepcopy(model.policy.optimizer.state_dict()["state"])
        for _ in range(2):
            model.learn(16)
            backup.restore()
            assert all(th.equal(tensor, weights[name]) for name, tensor in model.policy.state_dict().items())
            state = model.policy.optimizer.state_dict()["state"]
            assert state.keys() == moments.keys()
            assert all(th.equal(moments[i]["exp_avg"], state[i]["exp_avg"]) for i in state)


def test_a_backup_taken_again_is_the_same_memory_with_what_is_there_now() -> None:
    model = PPO("MlpPolicy", make_cartpole(), n_steps=8, batch_size=8, n_epochs=2, seed=0).learn(16)
    backup = Backup(model.policy, {})
    places = {name: tensor.data_ptr() for name, tensor in backup.state.items()}
    moments = backup.optimizer["state"][0]["exp_avg"].data_ptr()
    model.learn(16)
    weights = {name: tensor.clone() for name, tensor in model.policy.state_dict().items()}
    backup.take()
    model.learn(16)
    backup.restore()
    assert {name: tensor.data_ptr() for name, tensor in backup.state.items()} == places
    assert backup.optimizer["state"][0]["exp_avg"].data_ptr() == moments
    assert all(th.equal(tensor, weights[name]) for name, tensor in model.policy.state_dict().items())


def test_a_deep_copy_writes_over_what_fits_and_nothing_else() -> None:
    room = {"a": th.zeros(2), "b": [th.zeros(2), 1], "c": th.zeros(3)}
    value = {"a": th.ones(2), "b": [th.ones(3), 2], "c": th.ones(3, dtype=th.float64), "d": {"e": (1, 2)}}
    done = copied(value, room)
    assert done["a"] is room["a"]
    assert th.equal(room["a"], th.ones(2))
    assert th.equal(room["b"][0], th.zeros(2))  # type: ignore[index]
    assert th.equal(room["c"], th.zeros(3))
    assert done["b"][1] == 2
    assert done["c"].dtype == th.float64
    assert done["d"] == {"e": (1, 2)}
    assert done["c"].data_ptr() != value["c"].data_ptr()  # type: ignore[union-attr]


def test_peeking_does_not_move_the_random_state() -> None:
    model = PPO("MlpPolicy", make_cartpole(), n_steps=32, batch_size=8, n_epochs=1, seed=0).learn(64)
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    rows = draw_probe_batch(model.rollout_buffer, 16)
    assert len(rows.advantages) == 16
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002
    assert th.equal(rows.observations, draw_probe_batch(model.rollout_buffer, 16).observations)


@given(values=st.lists(st.floats(width=32), min_size=1, max_size=9))
def test_all_finite_says_what_isfinite_says(values: list[float]) -> None:
    tensors = [th.tensor(values), th.ones(3)]
    assert all_finite(tensors) is all(math.isfinite(value) for value in values)


def test_all_finite_is_not_fooled_by_a_sum_that_overflows() -> None:
    assert all_finite([th.full((4,), 3e38)])


class OnGpu(th.Tensor):
    """On the CPU, but says that it is not, and cannot be stacked with a tensor that is."""

    is_cpu, device = False, th.device("meta")  # type: ignore[assignment]

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is th.stack:
            assert all(isinstance(each, cls) for each in args[0]), "Tensor on device cpu is not on the expected device"
        return super().__torch_function__(func, types, args, kwargs or {})


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("values", [(1.0, 2.0), (math.nan, 2.0), (1.0, math.inf)])
def test_all_finite_judges_weights_on_a_gpu_and_adams_step_on_the_cpu_by_themselves(
    values: tuple[float, float], first: bool
) -> None:
    tensors = [th.full((3,), values[0]).as_subclass(OnGpu), th.tensor(values[1])]
    assert all_finite(tensors if first else tensors[::-1]) is all(map(math.isfinite, values))


def test_first_nonfinite_names_the_first_and_counts() -> None:
    tensors = {"a": th.ones(2), "b": th.tensor([math.nan, math.inf, 0.0]), "c": th.tensor([math.nan])}
    assert first_nonfinite(tensors) == "b: 2 of 3 values are not finite"
    assert first_nonfinite({"a": th.ones(2), "n": th.tensor(3)}) is None


def test_a_dumped_minibatch_can_be_read(tmp_path: Path) -> None:
    model = PPO("MlpPolicy", make_cartpole(), n_steps=8, batch_size=8, n_epochs=1, seed=0).learn(16)
    said = dump_minibatch(draw_probe_batch(model.rollout_buffer, 4), tmp_path / "new")
    path = tmp_path / "new" / "collapse_minibatch.npz"
    assert said == f"A minibatch is in {path}."
    with np.load(path) as arrays:
        assert arrays["observations"].shape == (4, 4)
        assert set(arrays) == {"observations", "actions", "old_values", "old_log_prob", "advantages", "returns"}
