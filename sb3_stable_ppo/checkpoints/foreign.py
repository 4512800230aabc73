"""
Parts of an env that live outside Python, and how their state is taken and given back.
"""

from __future__ import annotations

import io
import pickle
from functools import partial
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from stable_baselines3.common.monitor import ResultsWriter

INERT = ("pygame", "mujoco", "glfw", "OpenGL", "cv2", "moviepy", "gymnasium.envs.mujoco", "gymnasium.envs.registration")
"""Packages whose objects draw pictures or describe an env. They do not change in training: the new env's stay."""

INEXACT_GAMES = frozenset({"kaboom", "qbert", "tetris", "tictactoe3d", "videocheckers", "yarsrevenge"})
"""Of the 104 games of ale-py 0.12.1, those in which a restored state differed; docs/reliability.md says how."""


class Foreign:
    """Base: a kind of object that pickle cannot hold, or holds without its state."""

    @staticmethod
    def matches(value: Any) -> bool:
        """
        :param value: an attribute of an env
        """
        raise NotImplementedError

    @staticmethod
    def save(value: Any) -> Any:
        """
        :param value: the object
        :return: its state, which pickle can hold
        """
        raise NotImplementedError

    @staticmethod
    def load(value: Any, state: Any) -> None:
        """
        :param value: the new env's object
        :param state: to be put into it
        """
        raise NotImplementedError

    @staticmethod
    def problem(owner: Any) -> str | None:  # noqa: ARG004
        """
        :param owner: the env that has the object
        :return: why it does not go on exactly, in words; None where it does
        """
        return None


class MujocoData(Foreign):
    """
    MuJoCo's whole ``MjData``. ``mj_getState`` would leave out what ``mj_step`` has derived, such as body positions and
    contact forces, which lag behind ``qpos`` by one substep and which Ant and Humanoid observe.
    """

    @staticmethod
    def matches(value: Any) -> bool:
        return type(value).__name__ == "MjData" and type(value).__module__.startswith("mujoco")

    @staticmethod
    def save(value: Any) -> Any:
        return pickle.dumps(value)

    @staticmethod
    def load(value: Any, state: Any) -> None:
        import mujoco  # type: ignore[import-untyped,unused-ignore]

        mujoco.mj_copyData(value, value.model, pickle.loads(state))


class Emulator(Foreign):
    """
    ALE's emulator, with its random numbers. In ale-py 0.12.1 a state that is restored into a fresh emulator lacks a
    flag of the picture chip (repaired after it, ALE's pull request 732), which shows in few games. It also lacks the
    last action, which the next frame repeats where actions are sticky.
    """

    @staticmethod
    def matches(value: Any) -> bool:
        return type(value).__name__ == "ALEInterface"

    @staticmethod
    def save(value: Any) -> Any:
        return value.cloneState(include_rng=True)

    @staticmethod
    def load(value: Any, state: Any) -> None:
        value.restoreState(state)

    @staticmethod
    def problem(owner: Any) -> str | None:
        game = str(getattr(owner, "_game", ""))
        if game.lower().replace("_", "") in INEXACT_GAMES:
            return f"a state of {game} that ALE restores may differ from the one it saved in its first frames"
        emulator = getattr(owner, "ale", None)
        if emulator is not None and emulator.getFloat("repeat_action_probability") > 0:
            return f"{game} has sticky actions, and ALE does not save the action that they repeat"
        return None


class MonitorFile(Foreign):
    """The lines of a ``monitor.csv``: a Monitor that is built anew empties the file."""

    @staticmethod
    def matches(value: Any) -> bool:
        return isinstance(value, ResultsWriter)

    @staticmethod
    def save(value: Any) -> Any:
        value.file_handler.flush()
        return Path(value.file_handler.name).read_bytes().decode()

    @staticmethod
    def load(value: Any, state: Any) -> None:
        file = value.file_handler
        file.seek(0)
        file.truncate()
        file.write(state)
        file.flush()


KINDS: tuple[type[Foreign], ...] = (MujocoData, Emulator, MonitorFile)
BY_NAME: dict[str, type[Foreign]] = {kind.__name__: kind for kind in KINDS}


def kind_of(value: Any) -> type[Foreign] | None:
    """
    How to save an object that lives outside Python.

    :param value: an attribute of an env
    :return: None for any other
    """
    return next((kind for kind in KINDS if kind.matches(value)), None)


def is_inert(value: Any) -> bool:
    """
    Whether an object holds nothing that changes in training: modules, open files, windows.

    :param value: an attribute of an env
    """
    if isinstance(value, (ModuleType, io.IOBase)):
        return True
    module = type(value).__module__
    return any(module == name or module.startswith(f"{name}.") for name in INERT) and not MujocoData.matches(value)


def is_code(value: Any) -> bool:
    """
    Whether it is a function or a class: a lambda cannot be pickled, and the new env has its own.

    :param value: an attribute of an env
    """
    return isinstance(value, (type, FunctionType, MethodType, BuiltinFunctionType, partial))
