"""
``sb3-stable-ppo enjoy``: watch a trained agent play, through rl_zoo3.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import zipfile
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from yaml import YAMLError

from sb3_stable_ppo.cli.arguments import (
    BriefParser,
    add_gym_packages,
    add_help_argument,
    brief_error,
    parser_of,
    positive_int,
    show_help,
)
from sb3_stable_ppo.cli.zoo_flags import stored
from sb3_stable_ppo.common.checks import unknown
from sb3_stable_ppo.common.errors import UsageError, described, one_line
from sb3_stable_ppo.common.packages import PROGRAM, import_packages
from sb3_stable_ppo.common.patching import patched
from sb3_stable_ppo.envs.registry import check_env

DESCRIPTION = """\
Let a trained agent play, and print its scores. All flags of rl_zoo3's enjoy work; they follow below.
Nothing is shown (--no-render) where there is no screen."""

# Of rl_zoo3's own checks, of files of the run, and of the arguments of the env and the model.
PROBLEMS = (AssertionError, KeyError, OSError, UnpicklingError, ValueError, YAMLError, zipfile.BadZipFile, zlib.error)


def parser() -> argparse.ArgumentParser:
    """The flags of ``enjoy`` that are ours, or have another default than rl_zoo3's; it parses the others."""
    found = parser_of("enjoy", DESCRIPTION, "--env CartPole-v1 -n 500 --video videos", add_help=False)
    add_help_argument(found)
    found.add_argument("--algo", default="stable_ppo", help="algorithm of the agent (default: %(default)s)")
    found.add_argument("--env", default="CartPole-v1", help="id of the environment (default: %(default)s)")
    found.add_argument(
        "-f", "--folder", default="logs", metavar="FOLDER", help="log folder of train (default: %(default)s)"
    )
    found.add_argument(
        "-n",
        "--n-timesteps",
        type=positive_int,
        default=1000,
        metavar="STEPS",
        help="environment steps to play (default: %(default)s)",
    )
    add_gym_packages(found)
    found.add_argument(
        "--video",
        type=Path,
        metavar="FOLDER",
        help="write an mp4 of all steps to FOLDER and show nothing on a screen (default: no video)",
    )
    return found


def run(argv: list[str]) -> int:
    """let a trained agent play, print its scores, write a video; all flags of rl_zoo3's enjoy work"""
    if importlib.util.find_spec("rl_zoo3") is None:
        raise UsageError("enjoy needs rl_zoo3: pip install 'sb3-stable-ppo[zoo]'.")
    args, rest = parser().parse_known_args(argv)
    flags = ["--algo", args.algo, "--env", args.env, "-f", args.folder, "-n", str(args.n_timesteps), *rest]
    if args.video is not None and not args.help and importlib.util.find_spec("moviepy") is None:
        raise UsageError("--video needs moviepy: pip install moviepy.")
    if args.video is None and "--no-render" not in flags and not _has_screen():
        flags.append("--no-render")

    import rl_zoo3.enjoy
    from rl_zoo3.utils import ALGOS, create_test_env

    from sb3_stable_ppo.zoo.episode_counter import EpisodeCounter
    from sb3_stable_ppo.zoo.masks import MaskedPlayer
    from sb3_stable_ppo.zoo.registry import register

    register()
    if args.help:
        with patched(sys, "argv", [f"{PROGRAM} enjoy", "--help"]):
            show_help(parser(), "rl_zoo3's enjoy", rl_zoo3.enjoy.enjoy)
        return 0
    import_packages(args.gym_packages)
    check_env(args.env)
    given = BriefParser(prog=f"{PROGRAM} enjoy", add_help=False, allow_abbrev=False)
    given.add_argument("--env-kwargs", nargs="+", default=[])
    stored("--env-kwargs", given.parse_known_args(rest)[0].env_kwargs)
    if args.algo not in ALGOS:
        raise UsageError(unknown("algorithm", args.algo, ALGOS))
    envs: list[EpisodeCounter] = []
    with ExitStack() as stack:
        make_env = create_test_env
        if args.video is not None:
            make_env = recording(make_env, args.video, args.n_timesteps, f"{args.algo}-{args.env.replace('/', '-')}")
            flags.append("--no-render")

        def make_and_keep(*settings: Any, **options: Any) -> Any:
            try:
                envs.append(EpisodeCounter(make_env(*settings, **options)))
            except UsageError:
                raise
            except Exception as error:  # whatever an env, a wrapper or a pickle of statistics may raise
                raise UsageError(f"enjoy: the env {args.env} cannot be made: {described(error)}") from error
            return envs[-1]

        stack.enter_context(patched(rl_zoo3.enjoy, "create_test_env", make_and_keep))
        players = {name: MaskedPlayer.of(cls, envs) for name, cls in ALGOS.items()}
        stack.enter_context(patched(rl_zoo3.enjoy, "ALGOS", players))
        stack.enter_context(patched(sys, "argv", [f"{PROGRAM} enjoy", *flags]))
        stack.enter_context(patched(argparse.ArgumentParser, "error", brief_error))
        try:
            rl_zoo3.enjoy.enjoy()
        except PROBLEMS as error:
            if isinstance(error, (AssertionError, ValueError)) and "found" in str(error):
                hint = "train leaves one there; --algo, --env, -f and --exp-id say which run plays"
                raise UsageError(f"enjoy finds no model ({hint}): {one_line(error)}.") from error
            raise UsageError(f"enjoy: {described(error)}") from error
    told = envs[-1].told()
    if told:
        print(told)
    return 0


def recording(make_env: Callable[..., Any], folder: Path, steps: int, name: str) -> Callable[..., Any]:
    """
    rl_zoo3's ``create_test_env``, with SB3's video recorder around the env.

    :param make_env: rl_zoo3's
    :param folder: where the video goes
    :param steps: its length
    :param name: what its file's name begins with
    """

    def make(*args: Any, **kwargs: Any) -> Any:
        from stable_baselines3.common.vec_env import VecVideoRecorder

        env_kwargs = {**(kwargs.pop("env_kwargs", None) or {}), "render_mode": "rgb_array"}
        env = make_env(*args, env_kwargs=env_kwargs, **{**kwargs, "should_render": False})
        modes = env.get_attr("metadata")[0].get("render_modes") or ()
        if "rgb_array" not in modes:
            raise UsageError(f"--video: the env draws no pictures; its render_modes are {', '.join(modes) or 'none'}.")
        return VecVideoRecorder(env, str(folder), lambda step: step == 0, video_length=steps, name_prefix=name)

    return make


def _has_screen() -> bool:
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
