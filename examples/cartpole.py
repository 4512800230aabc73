"""
CartPole with StablePPO in Python, with the settings of ``zoo_configs/stable_ppo.yml``.

With the default seed the mean return of 20 fresh episodes is 500, the most that CartPole gives, and the verdict is
"healthy". It took 17 seconds on one core of an AMD EPYC.

    python examples/cartpole.py

Needs ``sb3-stable-ppo`` alone. ``logs/cartpole`` has the model, and ``health.jsonl`` for ``sb3-stable-ppo report``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.utils import LinearSchedule

from sb3_stable_ppo import HealthCallback, LinearLR, StablePPO, diagnose


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100_000, help="environment steps (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=Path("logs/cartpole"), help="(default: %(default)s)")
    args = parser.parse_args(argv)

    env = make_vec_env("CartPole-v1", n_envs=8, seed=args.seed)
    model = StablePPO(
        "StableMlpPolicy",
        env,
        learning_rate=LinearLR(1e-3),
        n_steps=32,
        batch_size=256,
        n_epochs=20,
        gamma=0.98,
        gae_lambda=0.8,
        clip_range=LinearSchedule(0.2, 0.0, 1.0),
        # Small networks run in NumPy, without torch's cost for each call.
        policy_kwargs={"lean": "auto", "optimizer_kwargs": {"fused": True}},
        seed=args.seed,
    )
    model.learn(args.steps, callback=HealthCallback(folder=args.folder))
    model.save(args.folder / "model")

    mean, std = evaluate_policy(model, make_vec_env("CartPole-v1", n_envs=4, seed=1000), n_eval_episodes=20)
    print(f"Mean return of 20 fresh episodes: {mean:.1f} +/- {std:.1f}")
    rollout = model.rollout_buffer.observations  # (n_steps, n_envs, 4)
    observations = rollout.reshape(-1, rollout.shape[-1])
    print(f"Verdict on the network: {diagnose(model, observations)}")


if __name__ == "__main__":
    main()
