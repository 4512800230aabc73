"""The move of BatchNorm's statistics after an update: measured, bounded, taken back with the update."""

from typing import Any

import pytest
import torch as th

from helpers.envs import make_cartpole
from sb3_stable_ppo import StableMlpPolicy, StablePPO
from sb3_stable_ppo.guards.statistics import HALVINGS, move_statistics
from sb3_stable_ppo.policies.running_batch_norm import RunningBatchNorm1d
from sb3_stable_ppo.policies.running_norm import GATHERED


class Policy:
    """One norm with moments gathered: mean 8, variance 0."""

    def __init__(self) -> None:
        self.running_norms = (RunningBatchNorm1d(1, momentum=0.5),)
        (norm,) = self.running_norms
        norm.gather(th.tensor([[8.0]]))
        norm.train(True)

    @property
    def statistics_are_due(self) -> bool:
        return bool(self.running_norms[0].is_due)

    def move_statistics(self, scale: float) -> None:
        self.running_norms[0].move(scale)

    def mean(self) -> float:
        return self.running_norms[0].running_mean.item()


@pytest.mark.parametrize(("bound", "expected"), [(9.0, 4.0), (4.0, 4.0), (3.9, 2.0), (0.6, 0.5), (0.1, 0.0)])
def test_a_move_that_goes_too_far_is_halved_until_it_does_not(bound: float, expected: float) -> None:
    policy = Policy()
    kl = move_statistics(policy, policy.mean, bound)
    assert kl == policy.mean() == expected
    assert not policy.statistics_are_due
    assert all(not getattr(policy.running_norms[0], name).any() for name in GATHERED)
    assert 4.0 / 2**HALVINGS > 0.1, "the last case is one in which no move is small enough"


def test_a_kl_that_is_not_a_number_moves_nothing() -> None:
    policy = Policy()
    assert move_statistics(policy, lambda: float("nan"), 1.0) == 0.0
    assert policy.mean() == 0.0


def test_a_policy_without_statistics_has_no_move() -> None:
    assert move_statistics(object(), lambda: 0.0, 1.0) is None


def model(**options: Any) -> StablePPO:
    settings: dict[str, Any] = {"n_steps": 16, "batch_size": 8, "n_epochs": 2, "seed": 0, **options}
    return StablePPO(StableMlpPolicy, make_cartpole(), policy_kwargs={"norm": "batch"}, **settings)


def test_the_move_is_made_at_the_end_of_train_and_its_kl_is_logged() -> None:
    ours = model().learn(3 * 32)
    assert not ours.policy.statistics_are_due
    assert 0 < ours.logger.name_to_value["norm/commit_kl"] < 0.01
    assert ours.logger.name_to_value["norm/first_ratio_error"] < 1e-5


def test_a_tighter_bound_makes_the_move_smaller() -> None:
    free = model().learn(3 * 32)
    kl = free.logger.name_to_value["norm/commit_kl"]
    bounded = model(guards={"max_statistics_kl": kl / 2}).learn(3 * 32)
    assert bounded.logger.name_to_value["norm/commit_kl"] <= kl / 2


def test_a_move_after_which_the_policy_puts_out_nothing_finite_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = model()
    move = type(ours.policy).move_statistics

    def spoil(policy: Any, scale: float = 1.0) -> None:
        spoils = policy.statistics_are_due and scale > 0
        move(policy, scale)
        if spoils:
            policy.running_norms[0].running_mean.fill_(th.nan)

    monkeypatch.setattr(type(ours.policy), "move_statistics", spoil)
    ours.learn(2 * 32)
    assert dict(ours.logger.name_to_value)["norm/commit_kl"] == 0
    assert th.isfinite(ours.policy.running_norms[0].running_mean).all()
    assert ours._undone_updates == 0


def test_an_update_that_is_dropped_moves_no_statistics() -> None:
    ours = model(guards={"max_kl": 1e-9, "max_retries": 0})
    with pytest.warns(UserWarning, match="An update was undone"):
        ours.learn(32)
    norm = ours.policy.running_norms[0]
    before = norm.running_mean.clone()
    ours.learn(2 * 32, reset_num_timesteps=False)
    assert th.equal(norm.running_mean, before)
    assert not ours.policy.statistics_are_due
