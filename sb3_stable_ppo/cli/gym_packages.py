"""
The modules that register a run's env, which its ``run.json`` names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sb3_stable_ppo.doctor.env_settings import LEVELS
from sb3_stable_ppo.runs.folder import RunReader
from sb3_stable_ppo.zoo.run_arguments import grouped


def packages_of(facts: Mapping[str, Any]) -> list[str]:
    """
    >>> packages_of({"arguments": ["--env", "My-v0", "--gym-packages", "my_envs", "-n", "100"]})
    ['my_envs']

    :param facts: of ``run.json``
    :return: what ``train --gym-packages`` has imported
    """
    arguments = facts.get("arguments")
    if not isinstance(arguments, list):
        return []
    return [name for name in grouped(map(str, arguments)).get("--gym-packages", ()) if name.isprintable()]


def packages_of_model(path: Path, env: str) -> list[str]:
    """
    The modules of the run that a model lies in.

    :param path: the model's zip, or the run folder
    :param env: id of the env; a run in another env tells nothing of it
    """
    for folder in (path.absolute(), *path.absolute().parents[:LEVELS]):
        try:
            facts = RunReader(folder).facts
        except (OSError, ValueError):
            continue
        if facts.get("env") == env:
            return packages_of(facts)
    return []


def gym_packages_flag(packages: list[str]) -> list[str]:
    """
    :param packages: modules
    :return: ``--gym-packages`` and these, or nothing
    """
    return ["--gym-packages", *packages] if packages else []
