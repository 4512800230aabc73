"""
Which model a run folder has, and in which run folder a model lies.
"""

from __future__ import annotations

from pathlib import Path

from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.runs.data import read_run

SHOWN = 5
"""Names in a message."""


def model_of_run(folder: Path) -> tuple[Path, str | None]:
    """
    The model of a folder: the last that its run has saved, ``<env>.zip``; without it the only zip that there is.

    :param folder: a run folder, or any folder with one zip
    :return: the model's zip, and the id of the run's env if anything tells it
    :raises UsageError: if there is no such zip, with what there is instead
    """
    try:
        env = read_run(folder).facts.get("env")
    except UsageError:
        env = None
    env = env if isinstance(env, str) else None
    zips = sorted(folder.glob("*.zip"))
    last = folder / f"{env.replace('/', '-')}.zip" if env else None  # as rl_zoo3 names it
    if last in zips:
        return last, env
    if len(zips) == 1:
        return zips[0], env
    if zips:
        which = f"no {last.name}, the last model of its run" if last else f"{len(zips)} models"
        raise UsageError(f"{folder} has {which}. Name one of {_listed(zips, folder)}.")
    elsewhere = sorted(folder.rglob("*.zip"))
    if elsewhere:
        raise UsageError(f"{folder} has no model itself. Name one of {_listed(elsewhere, folder)}.")
    what = "No model of its run was saved (yet)" if env else "It is no run folder"
    raise UsageError(f"{folder} has no model, but {_listed(sorted(folder.iterdir()), folder) or 'nothing'}. {what}.")


def run_of_model(path: Path) -> Path:
    """
    The run folder that a model lies in: its own folder, or that around a folder of checkpoints. A run that lies below
    the model's folder is not the model's.

    :param path: the model's zip
    :raises UsageError: if it lies in none
    """
    around = path.parent.parent
    if (around / "run.json").is_file() and not (path.parent / "run.json").is_file():
        return around
    try:
        read_run(path.parent, below=False)
    except UsageError:
        raise UsageError(
            f"{path} is a model that lies in no run folder, and a report is of a run. `sb3-stable-ppo doctor {path}` "
            "examines the model."
        ) from None
    return path.parent


def _listed(paths: list[Path], folder: Path) -> str:
    names = [str(path.relative_to(folder)) for path in paths]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
