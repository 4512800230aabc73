"""
Watch a network die, and another one survive, in about two minutes on two cores.

Stock PPO and StablePPO play Pong at a learning rate of 5e-3, twenty times the usual one. They take turns, one update
each. After each update a line tells how many units of each convolution are live: how many give a positive output for
some of 64 observations. With seed 0 stock PPO ends with 0, 0 and 4 live units in its convolutions. StablePPO undoes
updates that go too far and ends with 27 of 32, 51 of 64 and 55 of 64. At the end the film of both opens, a GIF.

Ours has `norm: layer`, as `make pong` has it. With BatchNorm in its place 13, 35 and 18 units were live after 6,144
steps.

    python examples/see_it_collapse.py
    python examples/see_it_collapse.py --no-open --gif docs/img/collapse.gif    # the GIF of the README

Needs ``sb3-stable-ppo[atari,report]``. Nobody learns Pong in so few steps: look at the layers, not at the return.
"""

from __future__ import annotations

import argparse
import warnings
import webbrowser
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
from PIL import Image, ImageDraw
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from sb3_stable_ppo import ActivationSnapshotCallback, HealthCallback, StablePPO
from sb3_stable_ppo.envs import make_atari_vec_env
from sb3_stable_ppo.runs import RunReader
from sb3_stable_ppo.snapshots import timeline_of, write_gif

SETTINGS: dict[str, Any] = {
    "learning_rate": 5e-3,
    "n_steps": 128,
    "batch_size": 256,
    "n_epochs": 10,
    "clip_range": 0.2,
    "ent_coef": 0.01,
}
MODELS: dict[str, tuple[type[PPO], str, dict[str, Any]]] = {
    "stock PPO": (PPO, "CnnPolicy", {}),
    "StablePPO": (StablePPO, "StablePongPolicy", {"norm": "layer"}),
}
LAYERS = ("conv1", "conv2", "conv3")
TITLE_HEIGHT = 22


def live_units(folder: Path) -> list[str]:
    """
    :param folder: of a run with HealthCallback
    :return: for each convolution, how many of its units were live after the last update
    """
    *_, newest = RunReader(folder).health()
    return [f"{newest['layers'][name]['live']}/{newest['layers'][name]['units']}" for name in LAYERS]


def titled(frames: np.ndarray, title: str) -> np.ndarray:
    """
    :param frames: of a film, shape (frames, height, width, 3)
    :param title: written above each of them
    """
    band = Image.new("RGB", (frames.shape[2], TITLE_HEIGHT), (24, 24, 27))
    ImageDraw.Draw(band).text((8, 6), title, fill=(255, 255, 255))
    bands = np.broadcast_to(np.asarray(band), (len(frames), *np.asarray(band).shape))
    return np.concatenate([bands, frames], axis=1)


def write_film(folders: dict[str, Path], path: Path) -> None:
    """
    The timelines of the runs, one above the other.

    :param folders: of runs with snapshots at the same steps, by title
    :param path: of the GIF
    """
    films = []
    for title, folder in folders.items():
        write_gif(timeline_of(RunReader(folder)), folder / "timeline.gif")
        frames = imageio.imread(folder / "timeline.gif", index=None, mode="RGB")
        films.append(titled(frames, f"{title}, learning rate {SETTINGS['learning_rate']:g}"))
    imageio.imwrite(path, np.concatenate(films, axis=1), extension=".gif", duration=500, loop=0)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8192, help="environment steps of each run (default: %(default)s)")
    parser.add_argument("--n-envs", type=int, default=8, help="games at once (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=Path("logs/see_it_collapse"), help="(default: %(default)s)")
    parser.add_argument("--gif", type=Path, help="the film (default: collapse.gif in the folder)")
    parser.add_argument("--no-open", action="store_true", help="do not open the film")
    args = parser.parse_args(argv)

    rollout = SETTINGS["n_steps"] * args.n_envs
    folders = {name: args.folder / name.replace(" ", "_") for name in MODELS}
    models: dict[str, PPO] = {}
    callbacks: dict[str, list[BaseCallback]] = {}
    envs: list[VecEnv] = []
    for name, (algorithm, policy, policy_kwargs) in MODELS.items():
        env = make_atari_vec_env("PongNoFrameskip-v4", n_envs=args.n_envs, seed=args.seed)
        envs.append(env)
        models[name] = algorithm(policy, env, seed=args.seed, policy_kwargs=policy_kwargs, **SETTINGS)
        # Two pictures for each update: the first update may be the one that kills the network.
        snapshots = ActivationSnapshotCallback(every=rollout // 2, folder=folders[name])
        callbacks[name] = [HealthCallback(folder=folders[name]), snapshots]

    print("Live units of each convolution:\n")
    print(f"{'step':>8}   {''.join(f'{name:<27}' for name in MODELS)}")
    print(f"{'':>8}   {''.join(f'{layer:<9}' for layer in LAYERS * len(MODELS))}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="HealthCallback")  # the table says the same
        warnings.showwarning = lambda message, *_: print(f"{'':>8}   {message}")
        for step in range(rollout, max(args.steps, rollout) + 1, rollout):
            for name, model in models.items():
                model.learn(rollout, callbacks[name], reset_num_timesteps=step == rollout)
            counts = [count for folder in folders.values() for count in live_units(folder)]
            print(f"{step:>8,}   {''.join(f'{count:<9}' for count in counts)}".rstrip(), flush=True)
    for env in envs:
        env.close()

    film = args.gif or args.folder / "collapse.gif"
    write_film(folders, film)
    print(f"\nThe film of both: {film}")
    if not args.no_open:
        webbrowser.open(film.resolve().as_uri())


if __name__ == "__main__":
    main()
