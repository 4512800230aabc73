"""
The one place where an env's hyperparameters are looked up, for ``train`` and ``tune``: in a user's file, or else in
ours and behind it in rl_zoo3's.
"""

from __future__ import annotations

import copy
import runpy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import rl_zoo3.exp_manager
import yaml
from rl_zoo3.exp_manager import ExperimentManager
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_stable_ppo.common.errors import UsageError, described, one_line
from sb3_stable_ppo.common.packages import import_here
from sb3_stable_ppo.common.patching import patched
from sb3_stable_ppo.zoo.entries import NOT_ENVS, File, Found, find_in_one, find_nearest, no_entry
from sb3_stable_ppo.zoo.registry import ALGORITHMS, config_file
from sb3_stable_ppo.zoo.stock_entries import stock_file, with_our_policy

OWN_NAME = "<hyperparams>"
"""The name of a Python file's module while it is read."""


class Entry(NamedTuple):
    """
    What an env is trained with.

    :param hyperparams: as rl_zoo3's YAML has them
    :param path: of the file
    :param source: file and entry, for messages
    :param note: where it is from, if that is not the env's own entry of the file; otherwise empty
    """

    hyperparams: dict[str, Any]
    path: Path
    source: str
    note: str = ""


def entry_for(config: str | Path, env_id: str, algorithm: type[BaseAlgorithm]) -> Entry:
    """
    The entry that an env is trained with.

    :param config: a user's file, which alone then counts, or the file that we ship for the algorithm
    :param env_id: a Gymnasium id
    :param algorithm: that is to be trained
    :raises UsageError: if a file cannot be read, no file has an entry for the env, or the entry is no mapping
    """
    path = Path(config)
    is_atari = ExperimentManager.is_atari(env_id)
    own, fallback = _read(path, str(path)), _fallback(path, algorithm)
    if fallback is None:
        found = _checked(find_in_one(env_id, own, is_atari), env_id, [own])
        return Entry(found.entry, path, found.source)
    files = [own, _read(fallback, f"rl_zoo3's {fallback.name}")]
    found = _checked(find_nearest(env_id, files, is_atari), env_id, files)
    note = f"{path.name} has no entry for {env_id}: taken from"
    if found.file is own:
        note = "" if found.name in (env_id, *NOT_ENVS) else f"{note} its {found.name}."
        return Entry(found.entry, path, found.source, note)
    hyperparams = with_our_policy(found.entry, algorithm, found.source)
    note = f"{note} {found.source}, with {hyperparams.get('policy')} and HealthCallback."
    return Entry(hyperparams, fallback, found.source, note)


def _checked(found: Found | None, env_id: str, files: list[File]) -> Found:
    """:raises UsageError: if there is no entry, or it is no mapping"""
    if found is None:
        raise UsageError(no_entry(env_id, files))
    if not isinstance(found.entry, dict):
        raise UsageError(f"{found.source}: not a mapping of names to values.")
    return found


def _fallback(config: Path, algorithm: type[BaseAlgorithm]) -> Path | None:
    """rl_zoo3's file behind the one that we ship for an algorithm; None for any other file."""
    for name, ours in ALGORITHMS.items():
        if ours is algorithm and config.resolve() == config_file(name).resolve():
            return stock_file(name)
    return None


@contextmanager
def in_place_of_file(manager: ExperimentManager, path: Path, content: Mapping[str, Any]) -> Iterator[None]:
    """
    Within this context rl_zoo3's ``read_hyperparameters`` finds something else in its file.

    :param manager: that reads
    :param path: of the file, or the name of a module
    :param content: what it finds
    """
    stands_in = SimpleNamespace(hyperparams=content)
    with (
        patched(rl_zoo3.exp_manager, "yaml", SimpleNamespace(safe_load=lambda _: content)),
        patched(rl_zoo3.exp_manager, "importlib", SimpleNamespace(import_module=lambda _: stands_in)),
        patched(manager, "config", str(path if is_yaml(path) else path.with_suffix(""))),
    ):
        yield


def is_yaml(config: str | Path) -> bool:
    """
    :param config: a file, or else a module of Python's, as rl_zoo3 takes both
    """
    return Path(config).suffix in (".yml", ".yaml")


def _read(path: Path, name: str) -> File:
    """:raises UsageError: if the file cannot be read, or is not a mapping of envs"""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) if is_yaml(path) else _hyperparams_of(path)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"conf_file (--conf-file) {path}: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise UsageError(f"conf_file (--conf-file) {path}: not a mapping of envs to their hyperparameters.")
    return File(name, content)


def _hyperparams_of(path: Path) -> Any:
    """
    The dictionary ``hyperparams`` of a Python file, or of a module by its name.

    :raises UsageError: if there is none
    """
    is_a_file = path.suffix == ".py"
    if is_a_file and not path.is_file():
        raise UsageError(f"conf_file (--conf-file) {path}: there is no such file.")
    neither = (
        f"conf_file (--conf-file) {path}: neither a .yml or .yaml file nor a Python file or module with a dictionary "
    )
    try:
        names = runpy.run_path(str(path), run_name=OWN_NAME) if is_a_file else vars(import_here(str(path)))
    except (ModuleNotFoundError, TypeError, ValueError) as error:
        if is_a_file or (isinstance(error, ModuleNotFoundError) and error.name not in (None, str(path))):
            raise UsageError(f"conf_file (--conf-file) {path}: {described(error, 300)}") from error
        raise UsageError(f"{neither}hyperparams.") from None
    except Exception as error:  # whatever somebody's code may raise
        raise UsageError(f"conf_file (--conf-file) {path}: {described(error, 300)}") from error
    if not isinstance(names.get("hyperparams"), dict):
        raise UsageError(f"{neither}hyperparams.")
    own = next(_defined_in_file(names["hyperparams"]), None)
    if own is not None:
        raise UsageError(
            f"conf_file (--conf-file) {path}: a run that goes on later would not find {own!r}, which the file defines. "
            "Define it in a module, and import it here."
        )
    return copy.deepcopy(names["hyperparams"])


def _defined_in_file(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for each in value:
            yield from _defined_in_file(each)
    elif getattr(value, "__module__", None) == OWN_NAME:
        yield value
