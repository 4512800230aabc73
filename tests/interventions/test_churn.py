"""The two forms of the churn of outputs."""

import numpy as np
import pytest
import torch as th
from torch.distributions import Bernoulli, Categorical, Normal

from sb3_stable_ppo.interventions.churn import policy_churn, value_churn


def test_of_discrete_actions_it_is_the_cross_entropy_summed_over_the_parts() -> None:
    now = [Categorical(th.tensor([[0.25, 0.75]])), Categorical(th.tensor([[0.5, 0.5, 0.0]]))]
    before = [Categorical(th.tensor([[0.5, 0.5]])), Categorical(th.tensor([[0.0, 1.0, 0.0]]))]
    expected = -0.5 * np.log(0.25) - 0.5 * np.log(0.75) - np.log(0.5)
    assert policy_churn(now, before).tolist() == pytest.approx([expected], rel=1e-5)
    buttons = policy_churn([Bernoulli(th.tensor([[0.25, 0.9]]))], [Bernoulli(th.tensor([[0.5, 1.0]]))])
    assert buttons.tolist() == pytest.approx([-0.5 * np.log(0.25) - 0.5 * np.log(0.75) - np.log(0.9)], rel=1e-5)


def test_of_continuous_actions_and_values_it_is_a_mean_square() -> None:
    now, before = Normal(th.tensor([[1.0, 2.0]]), th.ones(1, 2)), Normal(th.tensor([[0.0, 4.0]]), th.ones(1, 2))
    assert policy_churn([now], [before]).tolist() == [2.5]
    assert value_churn(th.tensor([[1.0, 3.0]]), th.tensor([[0.0, 0.0]])).item() == 5.0
    twins = (th.tensor([[1.0]]), th.tensor([[3.0]]))
    assert value_churn(twins, (th.zeros(1, 1), th.zeros(1, 1))).item() == 5.0


def test_where_nothing_has_moved_the_term_has_no_gradient() -> None:
    logits = th.tensor([[0.3, -1.0, 2.0]], requires_grad=True)
    policy_churn([Categorical(logits=logits)], [Categorical(logits=logits.detach())]).sum().backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-6
