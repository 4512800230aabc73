"""
Find out whether the network of your own model is alive.

With a zip of yours, the model plays its env for 512 observations, and you read the verdict, what is wrong and what
helps. Without one, this example first trains a model whose network dies: stock PPO with ReLU at a learning rate of
0.1. That took 5 seconds on one core of an AMD EPYC.

    python examples/diagnose_my_model.py                                   # a model that is dead
    python examples/diagnose_my_model.py my_model.zip --env CartPole-v1    # your own

Needs ``sb3-stable-ppo`` alone. Loading a zip executes what is in it: load only files that you trust. The command
``sb3-stable-ppo doctor MODEL.zip`` does the same for every algorithm, knows the wrappers of Atari games, and without
``--env`` executes nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from sb3_stable_ppo import diagnose


def train_a_sick_model(env: VecEnv, path: Path, steps: int) -> None:
    """
    :param env: to train in
    :param path: where the zip goes
    :param steps: of the environment
    """
    model = PPO("MlpPolicy", env, learning_rate=0.1, policy_kwargs={"activation_fn": nn.ReLU}, n_steps=256, seed=0)
    model.learn(steps)
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(path)


def observe(model: PPO, env: VecEnv, rows: int = 512) -> np.ndarray:
    """
    :param model: which plays
    :param env: of vectors or images, not of Dicts
    :param rows: observations to collect
    """
    observations = env.reset()
    seen: list[np.ndarray] = []
    while len(seen) * env.num_envs < rows:
        assert isinstance(observations, np.ndarray)
        seen.append(observations.copy())
        actions, _ = model.predict(observations)
        observations, *_ = env.step(actions)
    return np.concatenate(seen)[:rows]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", help="zip of a PPO (default: one that is trained first)")
    parser.add_argument("--env", default="CartPole-v1", help="id of its env (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=8192, help="of the model trained first (default: %(default)s)")
    parser.add_argument(
        "--folder", type=Path, default=Path("logs/diagnose"), help="where it goes (default: %(default)s)"
    )
    args = parser.parse_args(argv)

    env = make_vec_env(args.env, n_envs=4, seed=0)
    path = args.model
    if path is None:
        path = args.folder / "sick.zip"
        train_a_sick_model(env, path, args.steps)
    elif not path.is_file():
        parser.error(f"{path} does not exist: give the zip that model.save() wrote.")

    model = PPO.load(path, env=env)  # of another algorithm: its class in place of PPO
    diagnosis = diagnose(model, observe(model, env))
    print(f"{path}: {diagnosis.verdict}\n")
    for finding in diagnosis.findings:
        print(f"{finding.severity}: {finding.evidence}")
        print(f"  what helps: {finding.remedy}\n")
    for name, layer in diagnosis.figures.get("layers", {}).items():
        print(
            f"{name}: {layer['live']} of {layer['units']} units are live, {layer['dormant_fraction']:.0%} are dormant"
        )


if __name__ == "__main__":
    main()
