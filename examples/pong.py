"""
Pong as ``make pong`` trains it, in Python: the same settings, without the command line.

Training ends once the last 30 games have a mean return of 18, or after 500,000 steps. ``make pong``, which is the same
with evaluations, took 14.7 minutes on two cores of an AMD EPYC (docs/pong.md). The return stays below -19 for the first
44,000 to 164,000 steps (five seeds, docs/troubleshooting.md). While it runs, this shows the layers:
``sb3-stable-ppo report logs/pong --watch``.

    python examples/pong.py
    python examples/pong.py --steps 20000    # a look at the layers

Needs ``sb3-stable-ppo[atari]``, and ``[report]`` for the page.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from stable_baselines3.common.logger import configure

from sb3_stable_ppo import (
    ActivationSnapshotCallback,
    HealthCallback,
    KLAdaptiveLR,
    StablePPO,
    StopTrainingOnReturn,
    TorchRolloutBuffer,
)
from sb3_stable_ppo.envs import make_atari_vec_env


def make_model(n_envs: int, seed: int) -> StablePPO:
    """
    :param n_envs: games at once
    :param seed: of the games and of the network
    """
    env = make_atari_vec_env("PongNoFrameskip-v4", n_envs=n_envs, seed=seed)
    return StablePPO(
        "StablePongPolicy",
        env,
        learning_rate=KLAdaptiveLR(2.5e-4, target=0.02),
        n_steps=128,
        batch_size=64,
        n_epochs=4,
        clip_range=0.1,
        vf_coef=0.5,
        ent_coef=0.003,
        policy_kwargs={
            "norm": "layer",
            "norm_input": "running",
            # These change the speed, not what is learnt.
            "memory_format": "channels_last",
            "precision": "auto",
            "optimizer_kwargs": {"fused": True},
        },
        rollout_buffer_class=TorchRolloutBuffer,
        rollout_buffer_kwargs={"memory_format": "channels_last"},
        seed=seed,
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=500_000, help="environment steps at most (default: %(default)s)")
    parser.add_argument("--n-envs", type=int, default=8, help="games at once (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=Path("logs/pong"), help="(default: %(default)s)")
    args = parser.parse_args(argv)

    model = make_model(args.n_envs, args.seed)
    model.set_logger(configure(str(args.folder), ["stdout", "csv", "tensorboard"]))
    callbacks = [HealthCallback(), ActivationSnapshotCallback(every=1000), StopTrainingOnReturn(18.0, verbose=1)]
    model.learn(args.steps, callback=callbacks)
    model.save(args.folder / "PongNoFrameskip-v4")
    print(f"The page of the run: sb3-stable-ppo report {args.folder}")


if __name__ == "__main__":
    main()
