"""
What a reader of a diagnosis does next: the command to type, or the page to read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym

from sb3_stable_ppo.cli.gym_packages import gym_packages_flag, packages_of_model
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.common.packages import command_line
from sb3_stable_ppo.doctor.findings import Diagnosis
from sb3_stable_ppo.envs.registry import check_env
from sb3_stable_ppo.runs.folder import RunReader

RESCUE = 'The page "Rescue a dead agent" of the documentation (docs/rescue_a_dead_agent.md)'


def what_next(diagnosis: Diagnosis, model: Path, env: str | None) -> Iterator[str]:
    """
    Lines for the end of the output; none for a network in which nothing is wrong.

    :param diagnosis: of the model
    :param model: its zip or run folder, as the user named it
    :param env: the id of its env, if the run folder has told it
    """
    if diagnosis.is_open:
        env = env or env_of_zip(model)
        yield "Type this next (it executes what is in the zip: only for files that you trust):"
        packages = gym_packages_flag(packages_of_model(model, env)) if env else []
        yield f"  {command_line('doctor', str(model), '--env', env or 'ID', *packages)}"
        if env is None:
            yield "ID is the env that the model was trained in, such as PongNoFrameskip-v4: the zip does not name it."
    elif not diagnosis.is_healthy:
        yield f"{RESCUE} leads from here to an agent that lives, step by step."


def env_of_zip(path: Path) -> str | None:
    """
    The env of a model, where something beside its weights tells it: ``run.json`` in its folder or in that around it, or
    the name that rl_zoo3 gives zips (``CartPole-v1.zip``) and folders (``CartPole-v1_1``).

    :param path: of the zip
    :return: the id of an env that is registered, or that a module of the run registers; None: nothing tells it. The
        shape of the observations is no proof
    """
    told = [_env_of_folder(folder) for folder in (path.parent, path.parent.parent)]
    told += [path.stem if path.suffix == ".zip" else path.name, re.sub(r"_\d+$", "", path.parent.name)]
    return next((env for env in told if env and (_exists(env) or packages_of_model(path, env))), None)


def _env_of_folder(folder: Path) -> str | None:
    try:
        env = RunReader(folder).facts.get("env")
    except (OSError, ValueError):
        return None
    return env if isinstance(env, str) and env.isprintable() else None


def _exists(env: str) -> bool:
    try:
        check_env(env)
    except UsageError:
        return False
    return env in gym.envs.registry
