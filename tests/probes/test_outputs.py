"""What a policy does on given observations, read without a trace."""

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib import TQC
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3 import PPO, SAC

from sb3_stable_ppo.probes.outputs import log_prob, outputs_of, parts_of, policy_figures, unsquashed


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


def test_squashed_actions_of_an_actor_critic_are_those_that_it_draws_and_have_its_ratio() -> None:
    kwargs = {"squash_output": True, "net_arch": [8], "log_std_init": -1.0}
    model = PPO("MlpPolicy", "Pendulum-v1", n_steps=16, batch_size=16, use_sde=True, seed=0, policy_kwargs=kwargs)
    policy, observations = model.policy, th.randn(5, 3, generator=th.Generator().manual_seed(0))
    with th.no_grad():
        actions = policy.get_distribution(observations).get_actions()
        found, own = [], []
        for scale in (1.0, 30.0):
            policy.action_net.weight.mul_(scale)
            outputs = outputs_of(policy, observations)
            found.append(log_prob(outputs.parts, unsquashed(policy, actions)))
            own.append(policy.evaluate_actions(observations, actions)[1])
            th.testing.assert_close(outputs.choices, policy.get_distribution(observations).mode())
    th.testing.assert_close(found[1] - found[0], own[1] - own[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("space", "width"), [(spaces.Discrete(3), 3), (spaces.MultiDiscrete([3, 2]), 5), (spaces.MultiBinary(2), 4)]
)
def test_with_masks_the_distribution_is_the_one_that_a_masked_policy_draws_from(space: Any, width: int) -> None:
    policy = MaskableActorCriticPolicy(spaces.Box(-1, 1, (3,)), space, lambda _: 1e-3)
    observations, masks = th.randn(4, 3), np.ones((4, width))
    masks[1:3, 1] = 0
    with th.no_grad():
        outputs = outputs_of(policy, observations, masks)
        own = parts_of(policy.get_distribution(observations, masks))
    for part, expected in zip(outputs.parts, own, strict=True):
        assert th.equal(part.probs, expected.probs)
    assert outputs.parts[0].probs[:, 1].gt(0).tolist() == [True, False, False, True]


def test_an_action_that_is_never_allowed_counts_for_nothing_with_masks() -> None:
    policy = MaskableActorCriticPolicy(spaces.Box(-1, 1, (3,)), spaces.Discrete(3), lambda _: 1e-3)
    observations, masks = th.randn(64, 3), np.tile([True, False, True], (64, 1))
    with th.no_grad():
        policy.action_net.bias[1] = 12.0
        balances = [
            policy_figures(outputs_of(policy, observations, given), policy.action_space)["action_balance"]
            for given in (None, masks)
        ]
    assert balances[0] < 0.02 < 0.6 < balances[1]
