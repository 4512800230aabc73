"""A small transformer as features extractor."""

from __future__ import annotations

import gymnasium as gym
import torch as th
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn


class TokensExtractor(BaseFeaturesExtractor):
    """
    Each number of an observation becomes a token; attention, then a linear layer with a ReLU on every token, then their
    mean.

    :param observation_space: of vectors
    :param features_dim: the width of a token
    :param activation: of the attention's feed-forward net: a module is read by probes, a function is not
    """

    def __init__(
        self, observation_space: gym.spaces.Box, features_dim: int = 16, activation: nn.Module | str = "relu"
    ) -> None:
        super().__init__(observation_space, features_dim)
        self.embedding = nn.Linear(1, features_dim)
        layer = nn.TransformerEncoderLayer(
            features_dim,
            nhead=2,
            dim_feedforward=8,
            dropout=0.0,
            batch_first=True,
            activation=activation,  # type: ignore[arg-type]
        )
        self.encoder = nn.TransformerEncoder(layer, num_layers=1)
        self.head = nn.Sequential(nn.Linear(features_dim, features_dim), nn.ReLU())

    def forward(self, observations: th.Tensor) -> th.Tensor:
        tokens = self.encoder(self.embedding(observations.unsqueeze(-1)))
        return self.head(tokens).mean(dim=1)
