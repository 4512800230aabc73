"""Which layers a policy has, and the names they go by, where the networks are the user's own."""

from typing import Any

import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from sb3_stable_ppo.probes.layers import find_layers


class OwnBranches(nn.Module):
    """As in SB3's documentation, under names of the user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.latent_dim_pi = self.latent_dim_vf = 8
        self.actor_net, self.critic = (nn.Sequential(nn.Linear(4, 8), nn.ReLU()) for _ in range(2))
        self.shared = nn.Identity()

    def forward(self, features: th.Tensor) -> Any:
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: th.Tensor) -> th.Tensor:
        return self.actor_net(features)  # type: ignore[no-any-return]

    def forward_critic(self, features: th.Tensor) -> th.Tensor:
        return self.critic(features)  # type: ignore[no-any-return]


class OwnExtractorPolicy(ActorCriticPolicy):
    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = OwnBranches()  # type: ignore[assignment]


def test_actor_and_critic_of_an_mlp_extractor_of_the_users_own_are_told_by_their_names() -> None:
    model = PPO(OwnExtractorPolicy, "CartPole-v1")
    assert [layer.name for layer in find_layers(model.policy)] == ["pi.fc1", "vf.fc1"]
