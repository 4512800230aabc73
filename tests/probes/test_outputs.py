"""What a policy does on given observations, read without a trace."""

from typing import Any

import pytest
import torch as th
from sb3_contrib import TQC
from stable_baselines3 import SAC

from sb3_stable_ppo.probes.outputs import outputs_of


@pytest.mark.parametrize("algorithm", [SAC, TQC])
@pytest.mark.parametrize("use_sde", [False, True])
def test_the_distribution_of_a_squashed_actor_is_the_one_that_it_draws_from(algorithm: Any, use_sde: bool) -> None:
    model = algorithm("MlpPolicy", "Pendulum-v1", use_sde=use_sde, seed=0, policy_kwargs={"net_arch": [8]})
    observations = th.randn(5, 3, generator=th.Generator().manual_seed(0))
    before = dict(vars(model.policy.actor.action_dist))
    with th.no_grad():
        (part,) = outputs_of(model.policy, observations).parts
        assert vars(model.policy.actor.action_dist).keys() == before.keys()
        mean, log_std, extra = model.policy.actor.get_action_dist_params(observations)
        own = model.policy.actor.action_dist.proba_distribution(mean, log_std, **extra).distribution
    assert th.equal(part.mean, own.mean)
    th.testing.assert_close(part.stddev, own.stddev)
