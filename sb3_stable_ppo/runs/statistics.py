"""
Which statistics of VecNormalize belong to a saved model.
"""

from __future__ import annotations

import re
from pathlib import Path

LEVELS = 3
"""Folders above a zip that may be its run's: a checkpoint lies in ``RUN/checkpoints/STEP``."""


def statistics_of(path: Path, env_id: str) -> Path | None:
    """
    :param path: the model's zip
    :param env_id: the env
    :return: the file of VecNormalize's statistics that belongs to the model, if there is one
    """
    folders = [path.parent, *run_folders_of(path, env_id)]
    files = [*_of_checkpoint(path), *(folder / "vecnormalize.pkl" for folder in folders)]
    return next((file for file in files if file.is_file()), None)


def run_folders_of(path: Path, env_id: str) -> list[Path]:
    """
    Where the run of a model may have left what rl_zoo3 keeps of it.

    :param path: the model's zip
    :param env_id: the env
    """
    name = env_id.replace("/", "-")  # as rl_zoo3 names its folder
    return [parent / name for parent in path.absolute().parents[:LEVELS]]


def _of_checkpoint(path: Path) -> list[Path]:
    """The statistics that SB3's ``CheckpointCallback`` writes beside ``NAME_1000_steps.zip``."""
    found = re.fullmatch(r"(.+)_(\d+)_steps", path.stem)
    return [path.with_name(f"{found[1]}_vecnormalize_{found[2]}_steps.pkl")] if found else []
