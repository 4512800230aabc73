"""
The modules that register a run's env, which its ``run.json`` names, or stock rl_zoo3's ``args.yml``.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sb3_stable_ppo.runs.folder import RunReader
from sb3_stable_ppo.runs.statistics import LEVELS
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
    folders = (path.absolute(), *path.absolute().parents[:LEVELS])
    for folder in folders:
        try:
            facts = RunReader(folder).facts
        except (OSError, ValueError):
            continue
        if facts.get("env") == env:
            return packages_of(facts)
    name = env.replace("/", "-")  # as rl_zoo3 names the folder of its arguments
    for folder in folders:
        with suppress(OSError, ValueError):  # there is none, or it is no text
            return packages_of_arguments((folder / name / "args.yml").read_text(encoding="utf-8"))
    return []


def packages_of_arguments(text: str) -> list[str]:
    """
    Reads the text alone: YAML that rl_zoo3 has dumped would make objects.

    >>> packages_of_arguments("- - - env\\n    - My-v0\\n  - - gym_packages\\n    - - my_envs\\n")
    ['my_envs']

    :param text: of ``args.yml``
    :return: what ``rl_zoo3.train --gym-packages`` has imported
    """
    if find_spec("yaml") is None:  # it comes with rl_zoo3
        return []
    import yaml

    try:
        nodes = [yaml.compose(text, yaml.SafeLoader)]
    except yaml.YAMLError:
        return []
    while nodes:
        node = nodes.pop()
        children = node.value if isinstance(node, yaml.SequenceNode) else []
        if len(children) == 2 and getattr(children[0], "value", None) == "gym_packages":
            names = [each.value for each in children[1].value if isinstance(each, yaml.ScalarNode)]
            return [name for name in names if name.isprintable()]
        nodes += children
    return []


def gym_packages_flag(packages: list[str]) -> list[str]:
    """
    :param packages: modules
    :return: ``--gym-packages`` and these, or nothing
    """
    return ["--gym-packages", *packages] if packages else []
