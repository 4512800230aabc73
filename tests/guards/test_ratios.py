"""The guards' arithmetic: log-probs, ratios, advantages."""

import math
from typing import Any

import pytest
import torch as th
from hypothesis import given, strategies as st

from sb3_stable_ppo import GuardConfig
from sb3_stable_ppo.guards.arithmetic import finite_or_zero, guard_log_prob, normalize_advantages
from sb3_stable_ppo.metrics.kl import first_ratio_error

GUARDS = GuardConfig()
NAN, INF = math.nan, math.inf
ROWS = st.lists(st.tuples(st.floats(width=32), st.floats(-50, 50, width=32)), min_size=1, max_size=20)


def tensor(*values: float) -> th.Tensor:
    return th.tensor(values)


def test_a_healthy_log_prob_is_returned_itself() -> None:
    log_prob = tensor(-1.0, -2.0)
    assert guard_log_prob(log_prob, tensor(18.9, -22.0), GUARDS).log_prob is log_prob


def test_log_ratios_beyond_20_are_clamped_without_gradient() -> None:
    log_prob = tensor(30.0, -30.0, 1.0).requires_grad_()
    guarded = guard_log_prob(log_prob, tensor(0.0, 0.0, 0.0), GUARDS)
    assert guarded.log_prob.tolist() == [20.0, -20.0, 1.0]
    assert (guarded.clamped, guarded.nonfinite) == (2, 0)
    guarded.log_prob.sum().backward()
    assert log_prob.grad is not None
    assert log_prob.grad.tolist() == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("broken", [NAN, INF, -INF])
def test_a_nonfinite_log_ratio_counts_as_ratio_1_and_the_others_are_held_in_005_to_20(broken: float) -> None:
    log_prob = tensor(broken, 5.0, -5.0, 0.5).requires_grad_()
    old = tensor(-1.0, 0.0, 0.0, 0.0)
    guarded = guard_log_prob(log_prob, old, GUARDS)
    ratios = (guarded.log_prob - old).exp()
    assert ratios.tolist() == pytest.approx([1.0, 20.0, 0.05, math.exp(0.5)])
    assert (guarded.clamped, guarded.nonfinite) == (2, 1)
    guarded.log_prob.sum().backward()
    assert log_prob.grad is not None
    assert log_prob.grad.tolist() == [0.0, 0.0, 0.0, 1.0]


@given(rows=ROWS, limit=st.floats(0.5, 80))
def test_whatever_comes_in_the_ratio_that_goes_out_is_finite_and_bounded(rows: Any, limit: float) -> None:
    log_prob, old = (th.tensor(column, dtype=th.float64) for column in zip(*rows, strict=True))
    guarded = guard_log_prob(log_prob, old, GuardConfig(max_log_ratio=limit))
    log_ratio = guarded.log_prob - old
    assert bool((log_ratio.abs() <= limit * (1 + 1e-6) + 1e-6).all())
    within = (log_prob - old).abs() <= limit
    if bool(within.all()):
        assert guarded.log_prob is log_prob
    assert guarded.nonfinite == int((~th.isfinite(log_prob - old)).sum())


def test_finite_or_zero() -> None:
    healthy = tensor(1.0, 2.0)
    assert finite_or_zero(healthy) == (healthy, None)
    values, broken = finite_or_zero(tensor(1.0, NAN, INF))
    assert values.tolist() == [1.0, 0.0, 0.0]
    assert broken is not None
    assert broken.tolist() == [False, True, True]


def test_normalisation_is_ppos_arithmetic_bit_for_bit() -> None:
    advantages = th.randn(256, generator=th.Generator().manual_seed(0))
    ppos = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    ours, is_flat = normalize_advantages(advantages, 1e-5)
    assert not is_flat
    assert th.equal(ours, ppos)


def test_normalisation_with_a_mask_counts_only_what_is_masked_in() -> None:
    ours, _ = normalize_advantages(tensor(1.0, 3.0, 99.0), 1e-5, th.tensor([True, True, False]))
    th.testing.assert_close(ours[:2], tensor(-(0.5**0.5), 0.5**0.5))


def test_advantages_with_a_tiny_std_are_not_normalised() -> None:
    flat, spread = tensor(1.0, 1.0 + 1e-6), tensor(1.0, 1.0 + 1e-4)
    left, is_flat = normalize_advantages(flat, 1e-5)
    assert is_flat
    assert th.equal(left, flat)
    assert not normalize_advantages(spread, 1e-5)[1]


def test_first_ratio_error_is_the_largest_among_the_finite() -> None:
    assert first_ratio_error(tensor(0.0, math.log(1.5), NAN), tensor(0.0, 0.0, 0.0)) == pytest.approx(0.5)
    assert first_ratio_error(tensor(1000.0), tensor(0.0)) == pytest.approx(math.exp(88), rel=1e-5)
    assert first_ratio_error(tensor(NAN), tensor(0.0)) == 0.0
