"""Metrics: the figures of hand-computed cases, in float64, and of the formulas as numpy writes them."""

import inspect
import math
from types import ModuleType

import numpy as np
import pytest
import torch as th
from hypothesis import given, strategies as st

from helpers.elsewhere import Elsewhere
from helpers.processes import ROOT
from sb3_stable_ppo.guards import arithmetic
from sb3_stable_ppo.metrics import kl, layers, policy, weights
from sb3_stable_ppo.metrics.layers import (
    dead_fraction,
    dormant_fraction,
    feature_norm,
    feature_similarity,
    linear_fraction,
    live_units,
    ranks,
    saturated_fraction,
    sparsity,
    srank,
)
from sb3_stable_ppo.metrics.policy import (
    action_balance,
    churn_cross_entropy,
    entropy_share,
    policy_churn,
    policy_variance,
    ratio_excess,
)
from sb3_stable_ppo.metrics.weights import (
    distance,
    gradient_norms,
    grama_fraction,
    norm_drift,
    update_ratio,
    weight_norm,
)


@pytest.mark.parametrize("module", [layers, policy, weights])
def test_every_metric_is_in_the_docs(module: ModuleType) -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    functions = {
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
        if value.__annotations__["return"] not in ("th.Tensor", "list[int]")  # what metrics are made from
    }
    assert functions
    assert {name for name in functions if f"`{name}`" not in text} == set()
    assert {field for field in layers.Ranks._fields if f"`{field}`" not in text} == set()


def test_every_function_that_the_docs_name_exists() -> None:
    of_functions, _, _ = (ROOT / "docs" / "metrics.md").read_text().partition("\n## Healthy ranges\n")
    names = {line.split("`")[1] for line in of_functions.splitlines() if line.startswith("| `")}
    assert len(names) > 20
    known = {name for module in (layers, policy, weights, kl, arithmetic) for name in vars(module)} | {
        "explained_variance",
        *layers.Ranks._fields,
    }
    assert names <= known


def test_no_metric_draws_a_random_number_or_writes_into_its_input() -> None:
    th.manual_seed(0)
    features, probs = th.randn(64, 8), th.rand(64, 4).softmax(1)
    kept, state = (features.clone(), probs.clone()), th.get_rng_state()
    for measure in (live_units, dead_fraction, dormant_fraction, saturated_fraction, sparsity, ranks, feature_norm):
        measure(features)
    feature_similarity(features), grama_fraction(features), norm_drift(features, th.zeros(8), th.ones(8))
    for measure in (policy_variance, entropy_share, action_balance):
        measure(probs)
    assert th.equal(th.get_rng_state(), state)
    assert th.equal(features, kept[0])
    assert th.equal(probs, kept[1])


# -- units -------------------------------------------------------------------------------------------------------------


def test_a_unit_is_live_if_it_is_positive_anywhere_on_any_input() -> None:
    maps = th.full((2, 3, 2, 2), -0.01)
    maps[1, 2, 0, 1] = 0.5
    assert live_units(maps) == 1
    assert dead_fraction(maps) == pytest.approx(2 / 3)


def test_sparse_units_are_not_dead() -> None:
    assert dead_fraction(th.eye(4)) == 0.0


def test_dormant_fraction_divides_by_the_mean_of_the_layer() -> None:
    # means 0.02, 1, 1.98 of a layer mean 1: 0.02 <= 0.025 is dormant, 0.03 would not be
    assert dormant_fraction(th.tensor([[0.02, -1.0, 1.98]])) == pytest.approx(1 / 3)
    assert dormant_fraction(th.tensor([[0.03, -1.0, 1.97]])) == 0.0


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_a_layer_of_zeros_or_of_no_numbers_is_wholly_dormant(value: float) -> None:
    assert dormant_fraction(th.full((3, 5, 2, 2), value)) == 1.0
    assert live_units(th.full((3, 5, 2, 2), value)) == 0


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        (th.diag(th.tensor([4.0, 2.0, 0.001])), 2),  # 4 + 2 is 99.98% of the sum
        (th.diag(th.tensor([99.0, 1.0])), 1),  # exactly 99%
        (th.diag(th.tensor([98.9, 1.1])), 2),
        (th.ones(8, 1) @ th.arange(5.0)[None], 1),  # all inputs look alike
        (th.eye(5), 5),
        (th.zeros(4, 3), 0),
        (th.tensor([[1.0, float("nan")]]), 0),
    ],
)
def test_srank_is_the_count_of_singular_values_that_make_up_99_percent(features: th.Tensor, expected: int) -> None:
    assert srank(features) == expected
    assert srank(1e3 * features) == expected


def test_a_unit_of_leaky_relu_that_is_never_positive_is_linear_whatever_it_puts_out() -> None:
    outputs = th.nn.functional.leaky_relu(th.tensor([[-1.0, 2.0, -3.0], [-4.0, -5.0, -6.0]]), 0.01)
    assert linear_fraction(outputs) == pytest.approx(2 / 3)
    assert sparsity(outputs) == 0.0


def test_a_tanh_that_always_says_the_same_is_saturated_and_one_that_flips_is_not() -> None:
    pushed = th.tensor([[9.0, 9.0, 0.0], [12.0, -9.0, 0.5]]).double().tanh()
    assert saturated_fraction(pushed) == pytest.approx(1 / 3)
    assert saturated_fraction(th.full((4, 2), math.nan)) == 1.0


def test_channels_of_a_map_are_measured_over_batch_and_space() -> None:
    maps = th.zeros(2, 4, 3, 3)
    maps[0, 0, 0, 0] = 9.0  # mean 0.5
    maps[:, 1] = 0.5
    maps[:, 2] = -0.005  # 1% of 0.5
    assert live_units(maps) == 2
    # means 0.5, 0.5, 0.005, 0 of a layer mean 0.25125: 0.02 and 0 are dormant at 0.025, 0 alone at 0.01
    assert dormant_fraction(maps) == 0.5
    assert dormant_fraction(maps, tau=0.01) == 0.25
    assert saturated_fraction(maps) == 0.75
    assert sparsity(maps) == pytest.approx((17 + 18) / 72)


# -- features ----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**31), st.integers(1, 6))
def test_ranks_are_those_of_the_formulas(seed: int, width: int) -> None:
    features = np.random.default_rng(seed).normal(size=(8, width))
    s = np.linalg.svd(features, compute_uv=False)
    p, squares = s / s.sum(), s**2
    found = ranks(th.from_numpy(features))
    assert found.effective_rank == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-9)
    assert found.srank == 1 + int((np.cumsum(p) < 0.99).sum())
    assert found.pca_rank == 1 + int((np.cumsum(squares) / squares.sum() < 0.99).sum())
    assert found.stable_rank == pytest.approx(squares.sum() / squares.max(), rel=1e-9)


def test_ranks_of_known_matrices() -> None:
    assert ranks(th.eye(5, dtype=th.float64)) == pytest.approx((5.0, 5, 5, 5.0))
    assert ranks(th.ones(6, 1) @ th.arange(1.0, 4.0)[None]) == pytest.approx((1.0, 1, 1, 1.0), abs=1e-5)
    assert ranks(th.zeros(4, 3)) == ranks(th.full((4, 3), math.inf)) == (0.0, 0, 0, 0.0)
    # s = 4, 3: shares 4/7 and 3/7; squares 16 and 9
    two = ranks(th.diag(th.tensor([3.0, 4.0], dtype=th.float64)))
    assert two.effective_rank == pytest.approx((7 / 4) ** (4 / 7) * (7 / 3) ** (3 / 7))
    assert two.stable_rank == pytest.approx(25 / 16)


def test_similarity_is_the_mean_cosine_of_all_pairs_and_norm_the_mean_length() -> None:
    rows = np.random.default_rng(0).normal(size=(7, 3))
    cosines = [
        a @ b / np.linalg.norm(a) / np.linalg.norm(b) for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j
    ]
    assert feature_similarity(th.from_numpy(rows)) == pytest.approx(np.mean(cosines), rel=1e-9)
    assert feature_norm(th.from_numpy(rows)) == pytest.approx(np.linalg.norm(rows, axis=1).mean(), rel=1e-12)
    assert feature_similarity(th.ones(4, 2, 3, 3)) == pytest.approx(1.0)
    assert feature_similarity(th.zeros(4, 2)) == 0.0


# -- policy ------------------------------------------------------------------------------------------------------------


def test_policies_at_the_corners() -> None:
    same, sure, even = th.tensor([[1.0, 0.0, 0.0]]).repeat(4, 1), th.eye(3), th.full((5, 3), 1 / 3)
    assert (policy_variance(same), entropy_share(same), action_balance(same)) == (0.0, 0.0, 0.0)
    assert policy_variance(sure) == pytest.approx(2 / 9)  # of 1, 0, 0: mean 1/3, squares 4/9, 1/9, 1/9
    assert (entropy_share(sure), action_balance(sure)) == pytest.approx((0.0, 1.0))
    assert (policy_variance(even), entropy_share(even), action_balance(even)) == pytest.approx((0.0, 1.0, 1.0))


def test_entropy_is_a_share_of_its_maximum() -> None:
    probs = th.tensor([[0.5, 0.25, 0.125, 0.125]], dtype=th.float64)
    assert entropy_share(probs) == pytest.approx(1.75 / 2)  # 1.75 bits of 2


def test_ratio_excess_divides_the_mean_above_by_the_mean_below_the_clip_range() -> None:
    ratio = th.tensor([1.0, 1.05, 1.2, 1.4, 0.8, 0.6], dtype=th.float64)
    assert ratio_excess(ratio, 0.1) == pytest.approx(1.3 / 0.7)
    assert ratio_excess(th.ones(4), 0.1) == pytest.approx(1.1 / 0.9)
    assert ratio_excess(th.tensor([2.0, 1.0]), 0.1) == pytest.approx(2.0 / 0.9)
    assert math.isnan(ratio_excess(ratio, 1.0)), "no ratio lies below 0"


def test_no_rank_is_above_the_smaller_side_of_the_matrix() -> None:
    for seed in range(20):
        features = th.rand(64, 8, generator=th.Generator().manual_seed(seed))
        assert max(ranks(features, delta=0.0)[1:3]) == 8
    with pytest.raises(ValueError, match="delta must be a number from 0 to 1, not 2"):
        ranks(features, delta=2)


def test_churn_counts_flipped_choices_and_its_cross_entropy_is_entropy_plus_kl() -> None:
    rng = np.random.default_rng(0)
    before, after = (rng.dirichlet(np.ones(4), size=50) for _ in range(2))
    flipped = (before.argmax(1) != after.argmax(1)).mean()
    entropy, kl = -(before * np.log(before)).sum(1), (before * np.log(before / after)).sum(1)
    assert policy_churn(th.from_numpy(before), th.from_numpy(after)) == pytest.approx(flipped)
    assert churn_cross_entropy(th.from_numpy(before), th.from_numpy(after)) == pytest.approx((entropy + kl).mean())


# -- weights -----------------------------------------------------------------------------------------------------------


def test_norms_distances_and_update_sizes() -> None:
    start = {"a": th.tensor([[1.0, 2.0]], dtype=th.float64), "b": th.tensor([2.0], dtype=th.float64)}
    moved = {"a": th.tensor([[1.0, 2.3]], dtype=th.float64), "b": th.tensor([2.4], dtype=th.float64)}
    assert weight_norm(start) == pytest.approx(3.0)
    assert distance(moved, start) == pytest.approx(0.5)
    assert update_ratio(start, moved) == pytest.approx(0.5 / 3)
    assert gradient_norms({"a": th.tensor([[3.0, 4.0]]), "b": th.zeros(2)}) == {"a": 5.0, "b": 0.0}


def test_gradient_dormancy_is_the_same_whatever_the_gradient_was_scaled_by() -> None:
    gradient = th.tensor([[1.0, -1.0], [0.02, 0.02], [0.03, -0.03], [2.95, 2.95]])  # means 1, 0.02, 0.03, 2.95 of 1
    assert grama_fraction(gradient) == grama_fraction(1e-3 * gradient) == 0.25
    assert grama_fraction(gradient[:, :, None, None]) == 0.25
    assert grama_fraction(th.zeros(3, 2)) == 1.0


def test_drift_of_batchnorm_is_zero_on_its_own_statistics_and_grows_with_shift_and_scale() -> None:
    norm = th.nn.BatchNorm2d(3, momentum=1.0)
    inputs = th.randn(32, 3, 5, 5, generator=th.Generator().manual_seed(0))
    norm(inputs)
    assert norm_drift(inputs, norm.running_mean, norm.running_var) == pytest.approx(0.0, abs=1e-3)
    mean, var = th.tensor([1.0]), th.tensor([4.0])
    shifted = th.tensor([[2.0], [4.0]], dtype=th.float64)  # mean 3, std 1: a shift of one std, ln 2 of scale
    assert norm_drift(shifted, mean, var, eps=0.0) == pytest.approx(1.0 + math.log(2))


def test_on_a_device_without_float64_the_figures_are_those_of_the_cpu() -> None:
    probs, others = (th.rand(2, 50, 4, generator=th.Generator().manual_seed(0)) + 0.1).softmax(dim=2)
    there, others_there = Elsewhere(probs), Elsewhere(others)
    for measure in (policy_variance, entropy_share, action_balance, feature_similarity, ranks):
        assert measure(there) == measure(probs)  # type: ignore[operator]
    for compare in (policy_churn, churn_cross_entropy):
        assert compare(there, others_there) == compare(probs, others)
