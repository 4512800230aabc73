"""
A features extractor of your own in one of our policies: residual blocks on CartPole.

``StableMlpPolicy`` takes any ``BaseFeaturesExtractor``. The hidden layers behind it have our norm, activation and init;
what is in the extractor is yours. Write its activations as modules (``nn.LeakyReLU()``), not as functions
(``F.leaky_relu``): HealthCallback and ``diagnose`` read what activation modules put out.

With the default seed the mean return of the last 100 episodes is 482 of at most 500. A line for each layer follows,
those of the extractor included. It took 24 seconds on one core of an AMD EPYC.

    python examples/custom_extractor.py

Needs ``sb3-stable-ppo`` alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch as th
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sb3_stable_ppo import HealthCallback, StablePPO, diagnose


class ResidualBlock(nn.Module):
    """
    A layer whose output is added to its input: gradients pass it whatever its units do.

    :param width: of input and output
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, width)
        self.act = nn.LeakyReLU(0.01)

    def forward(self, inputs: th.Tensor) -> th.Tensor:
        outputs: th.Tensor = inputs + self.act(self.linear(self.norm(inputs)))
        return outputs


class ResidualExtractor(BaseFeaturesExtractor):
    """
    :param observation_space: of vectors
    :param features_dim: width of the blocks, and of the features
    :param n_blocks: how many
    """

    def __init__(self, observation_space: spaces.Box, features_dim: int = 64, n_blocks: int = 2) -> None:
        super().__init__(observation_space, features_dim)
        self.linear = nn.Linear(observation_space.shape[0], features_dim)
        self.act = nn.LeakyReLU(0.01)
        self.blocks = nn.Sequential(*(ResidualBlock(features_dim) for _ in range(n_blocks)))

    def forward(self, observations: th.Tensor) -> th.Tensor:
        features: th.Tensor = self.blocks(self.act(self.linear(observations)))
        return features


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100_000, help="environment steps (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=Path("logs/custom_extractor"), help="(default: %(default)s)")
    args = parser.parse_args(argv)

    env = make_vec_env("CartPole-v1", n_envs=8, seed=args.seed)
    model = StablePPO(
        "StableMlpPolicy",
        env,
        n_steps=32,
        batch_size=256,
        n_epochs=20,
        gamma=0.98,
        gae_lambda=0.8,
        learning_rate=1e-3,
        policy_kwargs={
            "features_extractor_class": ResidualExtractor,
            "features_extractor_kwargs": {"features_dim": 64, "n_blocks": 2},
            "net_arch": [64],
        },
        seed=args.seed,
    )
    model.learn(args.steps, callback=HealthCallback(folder=args.folder))
    model.save(args.folder / "model")

    returns = [episode["r"] for episode in model.ep_info_buffer or []]
    print(f"Mean return of the last {len(returns)} episodes: {sum(returns) / max(len(returns), 1):.1f}")
    rollout = model.rollout_buffer.observations  # (n_steps, n_envs, 4)
    observations = rollout.reshape(-1, rollout.shape[-1])
    diagnosis = diagnose(model, observations)
    print(f"Verdict on the network: {diagnosis.verdict}")
    for name, layer in diagnosis.figures["layers"].items():
        print(f"  {name}: {layer['live']} of {layer['units']} units are live")


if __name__ == "__main__":
    main()
