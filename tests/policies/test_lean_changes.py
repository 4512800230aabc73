"""Small networks in NumPy: whatever is changed about a policy by hand is seen by its next call."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from torch import nn
from torch.func import functional_call
from torch.nn.utils.parametrizations import weight_norm

from helpers.envs import make_cartpole
from helpers.lean import ACTIONS, VECTOR, acted, assert_acts_alike, plain_of, policy_of, rows_of
from sb3_stable_ppo import StableMlpPolicy, StablePPO
from sb3_stable_ppo.policies.extractors import StableMlpExtractor


def new_head(policy: Any) -> None:
    policy.action_net = nn.Linear(64, 5)


def head_in_place(policy: Any) -> None:
    policy.action_net.bias.data = th.arange(5.0)


def all_weights(policy: Any) -> None:
    policy.load_from_vector(np.linspace(-1, 1, len(policy.parameters_to_vector())))


def assigned(policy: Any) -> None:
    policy.load_state_dict({name: tensor + 0.1 for name, tensor in policy.state_dict().items()}, assign=True)


def frozen_norm(policy: Any) -> None:
    weight_norm(policy.action_net)


SEEN_AT_ONCE: dict[str, Callable[[Any], None]] = {
    "a new head": new_head,
    "a bias by data": head_in_place,
    "all weights from a vector": all_weights,
    "a state dict that is assigned": assigned,
    "a parametrization": frozen_norm,
}


@pytest.mark.parametrize("name", SEEN_AT_ONCE)
def test_new_tensors_and_modules_are_seen_by_the_next_call(name: str) -> None:
    policy = policy_of(lean="auto")
    obs = rows_of(policy)
    before = acted(policy, obs)
    SEEN_AT_ONCE[name](policy)
    assert_acts_alike(policy, obs)
    assert any(not th.equal(old, new) for old, new in zip(before, acted(policy, obs), strict=True))


def tanh(policy: Any) -> None:
    policy.mlp_extractor.policy_net.act1 = nn.Tanh()


def steep(policy: Any) -> None:
    policy.mlp_extractor.policy_net.act1.negative_slope = 0.5


def own_forward(policy: Any) -> None:
    policy.action_net.forward = lambda inputs: nn.functional.linear(inputs, policy.action_net.weight)


@pytest.mark.parametrize("change", [tanh, steep, own_forward])
def test_options_and_methods_are_seen_where_a_rollout_or_an_update_begins(change: Callable[[Any], None]) -> None:
    policy = policy_of(lean="auto")
    obs = rows_of(policy)
    acted(policy, obs)
    change(policy)
    policy.set_training_mode(True)
    policy.set_training_mode(False)
    assert_acts_alike(policy, obs)


def test_a_rollout_acts_with_the_head_that_was_put_in_before_it() -> None:
    models = []
    for lean in (False, "auto"):
        model = StablePPO(
            "StableMlpPolicy", make_cartpole(), n_steps=16, batch_size=16, seed=0, policy_kwargs={"lean": lean}
        )
        model.learn(32)
        th.manual_seed(5)
        model.policy.action_net = nn.Linear(64, 2)
        model.learn(32, reset_num_timesteps=False)
        models.append(model)
    for plain, lean_one in zip(*(model.policy.parameters() for model in models), strict=True):
        th.testing.assert_close(plain, lean_one, rtol=1e-3, atol=1e-4)


def test_weights_in_shared_memory_stay_there() -> None:
    policy = policy_of(lean=True)
    rows = rows_of(policy)
    acted(policy, rows)  # which puts the weights of actor and critic side by side
    policy.share_memory()
    assert_acts_alike(policy, rows)
    assert all(parameter.is_shared() for parameter in policy.parameters())


def test_functional_call_is_computed_with_the_weights_that_it_gives() -> None:
    policy = policy_of(lean=True)
    obs = rows_of(policy)
    acted(policy, obs)
    zeros = {name: th.zeros_like(parameter) for name, parameter in policy.named_parameters()}
    with th.no_grad():
        _, values, _ = functional_call(policy, zeros, (obs, True), tie_weights=False)
    assert not values.any()
    assert acted(policy, obs)[1].any()


def test_a_trace_holds_the_networks_and_no_numbers() -> None:
    policy = policy_of(lean=True)
    obs = rows_of(policy)
    acted(policy, obs)

    class Values(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.policy = policy

        def forward(self, rows: th.Tensor) -> Any:
            return self.policy(rows, True)[1]

    with th.no_grad():
        traced = th.jit.trace(Values(), obs, check_trace=False)
        th.testing.assert_close(traced(obs + 1), policy(obs + 1, True)[1], rtol=1e-4, atol=1e-5)


def test_observations_that_were_computed_get_their_gradient() -> None:
    policy, gradients = policy_of(lean=True), []
    for one in (policy, plain_of(policy)):
        one.set_training_mode(True)
        obs = rows_of(one).requires_grad_()
        values, log_prob, _ = one.evaluate_actions(obs, th.zeros(len(obs)))
        (values.sum() + log_prob.sum()).backward()
        gradients.append(obs.grad)
    assert gradients[0].any()
    th.testing.assert_close(*gradients)


# -- what torch does ---------------------------------------------------------------------------------------------------


def test_images_are_divided_by_255_as_sb3_does_it() -> None:
    space = spaces.Box(0, 255, (7, 7, 3), np.uint8)
    with pytest.raises(ValueError, match=r"lean: true cannot be done here: the observations are images"):
        policy_of(space, lean=True)
    policy = policy_of(space, norm="none", lean="auto")
    assert_acts_alike(policy, rows_of(policy))
    scaled = policy_of(space, norm="none", lean=True, normalize_images=False)
    assert_acts_alike(scaled, rows_of(scaled))


class Doubled(StableMlpExtractor):
    def forward_actor(self, features: th.Tensor) -> th.Tensor:
        return 2 * super().forward_actor(features)


class Plain(nn.Module):
    """As SB3's docs build one."""

    latent_dim_pi = latent_dim_vf = 8

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 8)

    def forward(self, features: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        return self.net(features), self.net(features)

    def forward_actor(self, features: th.Tensor) -> th.Tensor:
        return self.net(features)

    forward_critic = forward_actor


class OwnExtractor(StableMlpPolicy):
    kind: Any = None

    def _build_mlp_extractor(self) -> None:
        if self.kind is Plain:
            self.mlp_extractor = Plain()  # type: ignore[assignment]
        else:
            self.mlp_extractor = Doubled(self.features_dim, self.net_arch, self.block_config, self.device)


class WithDoubled(OwnExtractor):
    kind = Doubled


class WithPlain(OwnExtractor):
    kind = Plain


@pytest.mark.parametrize("cls", [WithDoubled, WithPlain])
def test_an_mlp_extractor_of_the_users_own_is_called(cls: Any) -> None:
    policy = cls(VECTOR, ACTIONS["Discrete"], lambda _: 1e-3, lean="auto")
    policy.set_training_mode(False)
    assert_acts_alike(policy, rows_of(policy))
    with pytest.raises(ValueError, match=f"{cls.kind.__name__} is an mlp_extractor that only torch runs"):
        cls(VECTOR, ACTIONS["Discrete"], lambda _: 1e-3, lean=True)


def test_what_can_never_be_done_is_an_error_when_the_policy_is_built() -> None:
    with pytest.raises(ValueError, match="lean: true cannot be done here: gSDE draws its noise in torch"):
        policy_of(actions=ACTIONS["Box"], lean=True, use_sde=True)
