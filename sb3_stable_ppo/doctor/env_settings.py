"""
How the run of a model has made its env: what rl_zoo3 keeps of that in the run folder.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from sb3_stable_ppo.runs.statistics import run_folders_of, statistics_of


class EnvSettings(NamedTuple):
    """
    What an env is made with.

    :param kwargs: of the env: ``env_kwargs`` of the configuration, or ``--env-kwargs``
    :param wrapper: ``env_wrapper`` of the configuration
    :param vec_env_wrapper: ``vec_env_wrapper`` of the configuration
    :param statistics: those of its VecNormalize
    """

    kwargs: dict[str, Any]
    wrapper: Callable[..., Any] | None = None
    vec_env_wrapper: Callable[..., Any] | None = None
    statistics: Path | None = None


def env_settings(path: Path, env_id: str) -> EnvSettings:
    """
    The settings of the run that a model lies in, as rl_zoo3's ``enjoy`` reads them. **This unpickles what is in
    config.yml**, as loading the model does.

    :param path: the model's zip
    :param env_id: the env; a run in another env tells nothing of it
    :return: empty, if there is no such run
    :raises ImportError: if there is one, and rl_zoo3 or a wrapper is not installed
    """
    folders = run_folders_of(path, env_id)
    statistics = statistics_of(path, env_id)
    folder = next((folder for folder in folders if (folder / "config.yml").is_file()), None)
    if folder is None:
        return EnvSettings({}, statistics=statistics)
    if find_spec("rl_zoo3") is None:
        raise ImportError(
            f"{folder / 'config.yml'} tells how the run has made its env, and rl_zoo3 reads it: "
            "pip install 'sb3-stable-ppo[zoo]'"
        )
    import yaml  # comes with rl_zoo3
    from rl_zoo3.utils import get_saved_hyperparams, get_wrapper_class

    hyperparams, _ = get_saved_hyperparams(str(folder))
    arguments = folder / "args.yml"
    given = yaml.load(arguments.read_text(encoding="utf-8"), yaml.UnsafeLoader) if arguments.is_file() else {}
    return EnvSettings(
        given.get("env_kwargs") or hyperparams.get("env_kwargs") or {},  # --env-kwargs replaces those of the file
        get_wrapper_class(hyperparams),
        get_wrapper_class(hyperparams, "vec_env_wrapper"),
        statistics,
    )
